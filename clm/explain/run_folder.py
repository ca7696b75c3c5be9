"""A run's folder, read: its set-up, its curve, and what it keeps of its text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clm.config.recipe import Recipe, load
from clm.data.description import DATA_FILE, describe
from clm.data.prepare import DEFAULT_VOCAB_SIZE, Prepared
from clm.errors import UserError
from clm.evaluation.scoring import unigram_loss
from clm.explain.scaling import unigram_entropy
from clm.explain.setup import Setup, Text
from clm.files import read_json
from clm.runs.curve import Curve
from clm.training.checkpoint.find import IDENTITY_FILE, step_of


def text_in_figures(data: Prepared) -> dict[str, Any]:
    """What data.json holds: counts of both splits, and what a unigram model of the text scores, nats a token."""
    scores = {
        "unigram_entropy": unigram_entropy(data.train.counts),
        "unigram_loss": unigram_loss(data.train, data.validation),
    }
    return describe(data) | scores


def of_statistics(recipe: Recipe, statistics: Mapping[str, Any], sequences_per_step: int) -> Setup:
    """The set-up of a run whose text is known in figures (data.json)."""
    train = statistics["train"]
    entropies = (statistics.get("unigram_entropy"), statistics.get("unigram_loss"))
    text = Text(train["tokens"], "the run's own text", train["words"], train["bytes"], *entropies)
    return Setup(recipe, statistics["vocab_size"], sequences_per_step, text)


@dataclass(frozen=True)
class Run:
    """A run's folder: its set-up, curve, and the log of every state it holds."""

    setup: Setup
    curve: Curve
    histories: Sequence[Sequence[Mapping[str, Any]]]


def of_run(folder: Path) -> Run:
    """Read a run's folder, finished or not.

    Raises:
        UserError: it isn't one, or has logged nothing yet.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    states = [folder / "trainer_state.json"]
    states += [path / states[0].name for path in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)]
    histories = [state["log_history"] for path in states if isinstance(state := read_json(path), dict)]
    if not (folder / "recipe.json").is_file():
        raise UserError(f"{folder}: not a run's folder: it has no recipe.json")
    if not histories:
        raise UserError(f"{folder}: the run has saved no state yet: no trainer_state.json, here or in a checkpoint")
    recipe, identity = load(folder / "recipe.json"), read_json(folder / IDENTITY_FILE) or {}
    batch = recipe.training.get("per_device_train_batch_size", 8)
    sequences = identity.get("sequences_per_step") or batch * recipe.accumulation(1)
    longest = max(histories, key=lambda history: history[-1]["step"] if history else 0)
    if statistics := read_json(folder / DATA_FILE):
        setup = of_statistics(recipe, statistics, sequences)
    else:
        text = Text(_tokens_from_log(recipe, longest, sequences, folder), "the epochs in the run's log")
        vocab_size = identity.get("vocab_size") or recipe.data.vocab_size or DEFAULT_VOCAB_SIZE
        setup = Setup(recipe, vocab_size, sequences, text)
    return Run(setup, Curve.of(longest), histories)


def _tokens_from_log(recipe: Recipe, history: Sequence[Mapping[str, Any]], sequences: int, folder: Path) -> int:
    """Tokens of the training text, to within a step, from how far in an epoch a step was."""
    known = [entry for entry in history if entry.get("epoch")]
    if not known:
        raise UserError(f"{folder}: its log doesn't tell how long the text is, and {DATA_FILE} isn't there")
    samples = math.floor(known[-1]["step"] / known[-1]["epoch"]) * sequences
    size = recipe.data.block_size
    return samples + size if recipe.data.sampling == "windows" else samples * size + 1
