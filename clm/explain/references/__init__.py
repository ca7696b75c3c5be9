"""Reference runs, as data: small ones of this project (small_runs.json) and published ones (published.json)."""

import math
from functools import cache
from pathlib import Path
from typing import Any

from clm.config.fields import MUON
from clm.explain.expected import Model, Point, Situation
from clm.explain.forecast import Law
from clm.explain.scaling import typical_unigram_entropy
from clm.files import read_json
from clm.training.schedule import learning_rates

FOLDER = Path(__file__).parent
FEWEST_SEEN = 0.15  # of a small run's steps: before, its loss says more of its warmup than of its set-up
FIRST_STEP = 300  # of a published run, for the same reason


def entries(name: str) -> list[dict[str, Any]]:
    """The runs of small_runs.json or published.json, as they are kept."""
    return read_json(FOLDER / name)


@cache
def model() -> Model:
    """The expected loss, calibrated on all of them."""
    return Model(points())


def points() -> list[Point]:
    """Some losses of every run."""
    small = [point for entry in entries("small_runs.json") for point in _small(entry)]
    return small + [point for entry in entries("published.json") for point in _published(entry)]


def _small(entry: dict[str, Any]) -> list[Point]:
    recipe = entry["recipe"]
    steps = recipe["max_steps"]
    tokens = recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"] * recipe["block_size"]
    situation = Situation(
        text=entry["text"],
        non_embedding_parameters=12 * recipe["n_layer"] * recipe["n_embd"] ** 2,
        unigram=entry["unigram_loss"],
        block_size=recipe["block_size"],
        peak_rate=recipe["learning_rate"],
        tokens_per_step=tokens,
        dataset_tokens=entry["dataset_tokens"],
        law=Law(lambda at: learning_rates(recipe, steps, at), steps, entry["dataset_tokens"] / tokens),
        muon=recipe.get("optim") == MUON,
    )
    kept = [pair for pair in entry["validation"] if pair[0] >= FEWEST_SEEN * steps and pair[0] % (steps // 5) == 0]
    return [Point(entry["name"], situation, *pair) for pair in kept]


def _published(entry: dict[str, Any]) -> list[Point]:
    schedule, curve = entry["schedule"], entry["curve"]
    steps = schedule["max_steps"]
    in_a_pass = (entry["dataset_tokens"] or math.inf) / entry["tokens_per_step"]
    situation = Situation(
        text=entry["text"],
        non_embedding_parameters=entry["non_embedding_parameters"],
        unigram=typical_unigram_entropy(entry["vocab_size"]),
        block_size=entry["block_size"],
        peak_rate=schedule["learning_rate"],
        tokens_per_step=entry["tokens_per_step"],
        dataset_tokens=entry["dataset_tokens"],
        law=Law(lambda at: learning_rates(schedule, steps, at), steps, in_a_pass),
        muon=False,
    )
    kept = [*curve[:-1:5], curve[-1]] if len(curve) > 10 else curve
    return [Point(entry["name"], situation, *pair) for pair in kept if pair[0] > FIRST_STEP]
