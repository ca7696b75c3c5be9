"""Reference runs, as data: small ones of this project, public curves of large ones, published single losses."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clm.config.fields import MUON
from clm.config.optim_args import embeddings_rate
from clm.explain.expected import Model
from clm.explain.forecast import Facts, Law
from clm.explain.situation import Point, Situation
from clm.files import read_json
from clm.training.schedule import learning_rates

FOLDER = Path(__file__).parent
FEWEST_SEEN = 0.15  # of a small run's steps: before, its loss says more of its warmup than of its set-up
FIRST_STEP = 300  # of a large run, for the same reason
WEIGHT_DECAY = 0.1  # of the small runs, where their recipe doesn't name it
LARGE_POINTS = 8  # of each large curve: neighbours tell nothing new
REPEATED_FILES = ("repeated_runs.json", "regime_runs.json")  # of many epochs, over one little text and over others
REPEATED_NOISE = 0.05  # nats, of their losses: of 0.03, 0.05 and 0.08 the likeliest
REPEATED_POINTS, REPEATED_SEEN = 4, 0.1  # of each of their curves, after the first epoch and this share of the steps


@cache
def entries(name: str) -> list[dict[str, Any]]:
    """The runs of one of the files, as they are kept."""
    return read_json(FOLDER / name)


@cache
def model() -> Model:
    """The expected loss, calibrated on all of them."""
    return Model([*points(), *repeated_points()])


def repeated_points() -> list[Point]:
    """Some losses of every run of many epochs.

    Runs of one size over one text go under one name: seed and code are the same, so their level is one.
    """
    return [point for name in REPEATED_FILES for entry in entries(name) for point in repeated(entry)]


def repeated(entry: dict[str, Any]) -> list[Point]:
    """Those of one run."""
    situation, total = small_situation(entry), entry["recipe"]["max_steps"]
    least = max(REPEATED_SEEN * total, situation.dataset_tokens / situation.tokens_per_step)
    seen = [pair for pair in entry["validation"] if pair[0] >= least]
    kept = sorted({round(at) for at in np.linspace(0, len(seen) - 1, REPEATED_POINTS)}) if seen else []
    return [Point(repeated_group(entry), situation, *seen[at], noise=REPEATED_NOISE) for at in kept]


def repeated_group(entry: dict[str, Any]) -> str:
    """The name of a run's size and text."""
    recipe = entry["recipe"]
    return f"many epochs, {entry.get('size', 'one text')} {recipe['n_layer']}x{recipe['n_embd']}"


def points() -> list[Point]:
    """Some losses of every run of few epochs."""
    rows = [point for entry in entries("small_runs.json") for point in _small(entry)]
    rows += [point for entry in entries("large_runs.json") for point in _large(entry)]
    return rows + [point for entry in entries("published.json") for point in _published(entry)]


def small_law(entry: dict[str, Any]) -> Law:
    """The schedule of a run of small_runs.json."""
    recipe, steps = entry["recipe"], entry["recipe"]["max_steps"]
    in_a_pass = entry["dataset_tokens"] / _tokens(recipe)
    law = Law(lambda at: learning_rates(recipe, steps, at), steps, in_a_pass, parameters=_parameters(recipe))
    law.penalty = small_situation(entry, law).overfitting
    return law


def small_facts(entry: dict[str, Any]) -> Facts:
    """What is known of it besides its curve."""
    recipe = entry["recipe"]
    tokens = _tokens(recipe) * recipe["max_steps"]
    return Facts(
        parameters=_parameters(recipe),
        tokens=tokens,
        steps=recipe["max_steps"],
        optimizer=recipe.get("optim", "adamw"),
        peak_rate=recipe["learning_rate"],
        epochs=max(1.0, tokens / entry["dataset_tokens"]),
        text=entry["text"],
        dropout=recipe["resid_pdrop"],
        weight_decay=recipe.get("weight_decay", WEIGHT_DECAY),
        embeddings=embeddings_rate(recipe),
    )


def large_law(entry: dict[str, Any]) -> Law:
    """The schedule of a run of large_runs.json or published.json."""
    steps = entry["schedule"]["max_steps"]
    in_a_pass = (entry["dataset_tokens"] or math.inf) / entry["tokens_per_step"]
    return Law(rates(entry["schedule"]), steps, in_a_pass, parameters=entry["non_embedding_parameters"])


def large_facts(entry: dict[str, Any]) -> Facts:
    """What is known of it besides its curve."""
    steps, tokens = entry["schedule"]["max_steps"], entry["tokens_per_step"]
    rate = entry["schedule"]["learning_rate"]
    return Facts(entry["non_embedding_parameters"], tokens * steps, steps, entry["optimizer"], rate)


def rates(schedule: dict[str, Any]) -> Callable[[Sequence[int]], np.ndarray]:
    """The learning rates at steps: of a recipe's schedule, or between the given ones (`rates`: [step, rate])."""
    if "rates" in schedule:
        steps, values = np.array(schedule["rates"]).T
        return lambda at: np.interp(at, steps, values)
    known = schedule | {"learning_rate": schedule["learning_rate"] or 1.0}  # another optimizer's unit may be another
    return lambda at: learning_rates(known, known["max_steps"], at)


def _tokens(recipe: dict[str, Any]) -> int:
    return recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"] * recipe["block_size"]


def _parameters(recipe: dict[str, Any]) -> int:
    return 12 * recipe["n_layer"] * recipe["n_embd"] ** 2


def small_situation(entry: dict[str, Any], law: Law | None = None) -> Situation:
    """Of a run of small_runs.json or repeated_runs.json; its law is worked out where it isn't given."""
    recipe = entry["recipe"]
    return Situation(
        text=entry["text"],
        non_embedding_parameters=_parameters(recipe),
        unigram=entry["unigram_loss"],
        bytes_per_token=entry["dataset_bytes"] / entry["dataset_tokens"],
        vocab_size=recipe["vocab_size"],
        block_size=recipe["block_size"],
        peak_rate=recipe["learning_rate"],
        tokens_per_step=_tokens(recipe),
        dataset_tokens=entry["dataset_tokens"],
        law=law or small_law(entry),
        muon=recipe.get("optim") == MUON,
        dropout=recipe["resid_pdrop"],
        weight_decay=recipe.get("weight_decay", WEIGHT_DECAY),
    )


def _small(entry: dict[str, Any]) -> list[Point]:
    steps, situation = entry["recipe"]["max_steps"], small_situation(entry)
    kept = [pair for pair in entry["validation"] if pair[0] >= FEWEST_SEEN * steps and pair[0] % (steps // 5) == 0]
    return [Point(entry["name"], situation, *pair) for pair in kept]


def _large(entry: dict[str, Any]) -> list[Point]:
    curve = [pair for pair in entry["validation"] if pair[0] > FIRST_STEP]
    wanted = np.geomspace(curve[0][0], curve[-1][0], LARGE_POINTS)
    kept = sorted({min(range(len(curve)), key=lambda i, step=step: abs(curve[i][0] - step)) for step in wanted})
    situation = _situation(entry)
    return [Point(entry["name"], situation, *curve[i]) for i in kept]


def _published(entry: dict[str, Any]) -> list[Point]:
    situation = _situation(entry)
    return [Point(entry["name"], situation, *pair, assumed=True) for pair in entry["curve"] if pair[0] > FIRST_STEP]


def _situation(entry: dict[str, Any]) -> Situation:
    return Situation(
        text=entry["text"],
        non_embedding_parameters=entry["non_embedding_parameters"],
        unigram=None,
        bytes_per_token=None,
        vocab_size=entry["vocab_size"],
        block_size=entry["block_size"],
        peak_rate=entry["schedule"]["learning_rate"],
        tokens_per_step=entry["tokens_per_step"],
        dataset_tokens=entry["dataset_tokens"],
        law=large_law(entry),
        muon=entry.get("optimizer", "adamw") != "adamw",
    )
