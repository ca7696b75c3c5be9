"""A run's folder, read into plain data. Nothing in it is trusted: numbers are checked, the rest stays text."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clm.data.steps import count_samples, tokens_trained
from clm.errors import UserError
from clm.model.size import count_parameters
from clm.numbers import count, number
from clm.runs.curve import Curve
from clm.training.checkpoint.find import folders_in, step_of

Json = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder tells; what it doesn't have is empty. Each logged entry has a whole number as `step`.

    `log` is the newest saved state's, `histories` the logs of all of them: the folder's own, then its checkpoints'.
    `metrics` is eval_results.json or, where a run isn't finished, the evaluation with the lowest loss so far.
    """

    folder: Path
    state: str
    reason: str
    step: int
    total_steps: int | None
    log: list[Json]
    histories: list[list[Json]]
    recipe: Json
    identity: Json
    trained: Json
    metrics: Json
    data: Json
    environment: Json
    energy: Json
    samples: list[Json]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @cached_property
    def curve(self) -> Curve:
        """The losses of the log."""
        return Curve.of(self.log)

    @property
    def best(self) -> Json | None:
        """The logged evaluation with the lowest loss."""
        return _best(self.log)

    @property
    def vocab_size(self) -> int | None:
        """Ids of the tokenizer."""
        told = (count(source.get("vocab_size")) for source in (self.data, self.identity, self.recipe))
        return next((size for size in told if size), None)

    @property
    def parameters(self) -> int | None:
        """Weights of the model, the tied head counted once; None where the folder doesn't tell its shape."""
        sizes = [count(self.recipe.get(key)) for key in ("n_layer", "n_embd", "block_size")] + [self.vocab_size]
        if not all(sizes):
            return None
        shape = dict(zip(("n_layer", "n_embd", "block_size", "vocab_size"), sizes, strict=True))
        tied, inner = bool(self.recipe.get("tie_word_embeddings", True)), count(self.recipe.get("n_inner"))
        return count_parameters(**shape, n_inner=inner, tie_word_embeddings=tied).total

    def tokens_at(self, step: int) -> int | None:
        """Tokens trained on by `step`; short last steps of epochs are known where the data is."""
        sequences, block = count(self.identity.get("sequences_per_step")), count(self.recipe.get("block_size"))
        if not sequences or not block:
            return None
        text = self.data.get("train")
        tokens = count(text.get("tokens")) if isinstance(text, dict) else None
        samples = count_samples(tokens, block, str(self.recipe.get("sampling"))) if tokens else 0
        return tokens_trained(step, samples, sequences, block) if samples else step * sequences * block


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder, finished or not.

    Raises:
        UserError: it isn't one, or a file in it can't be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    holders = [folder, *sorted(folders_in(folder), key=step_of, reverse=True)]  # the newest checkpoint first
    states = [_object(path) for place in holders if (path := place / "trainer_state.json").is_file()]
    recipe = _object(folder / "recipe.json")
    if not states and not recipe:
        raise UserError(f"{folder}: not a run's folder: it has no trainer_state.json, no checkpoint and no recipe.json")
    newest = max(states, key=lambda state: count(state.get("global_step")) or 0, default={})
    log = _entries(newest)
    status, trained = _object(folder / "run_status.json"), _object(folder / "train_results.json")
    step = count(newest.get("global_step")) or max((entry["step"] for entry in log), default=0)
    finished = status.get("state") == "finished" or (step > 0 and trained.get("train_steps") == step)
    results = _object(folder / "eval_results.json") if finished else {}
    return RunRecord(
        folder=folder,
        state="finished" if finished else str(status.get("state", "unknown")),
        reason="" if finished else str(status.get("reason") or ""),
        step=step,
        total_steps=count(status.get("total_steps")) or count(newest.get("max_steps")),
        log=log,
        histories=[_entries(state) for state in states],
        recipe=recipe,
        identity=_object(folder / "run_identity.json"),
        trained=trained if finished else {},
        metrics=results or _best(log) or {},
        data=_object(folder / "data.json"),
        environment=_object(folder / "environment.json"),
        energy=_object(folder / "energy.json"),
        samples=_samples(folder / "samples.jsonl"),
    )


def _best(log: list[Json]) -> Json | None:
    evaluations = [entry for entry in log if number(entry.get("eval_loss")) is not None]
    return min(evaluations, key=lambda entry: entry["eval_loss"], default=None)


def _entries(state: Json) -> list[Json]:
    logged = state.get("log_history")
    return [entry for entry in logged if _is_entry(entry)] if isinstance(logged, list) else []


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and count(entry.get("step")) is not None


def _object(path: Path) -> Json:
    """The JSON object at `path`; an empty one where there is no file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not whole JSON; delete it, or take the file from a copy") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _samples(path: Path) -> list[Json]:
    """The samples of text, oldest first; a line that a killed run left half-written is passed over."""
    found = []
    try:
        for line in path.read_text("utf-8", errors="replace").split("\n"):
            try:
                sample = json.loads(line)
            except ValueError:
                continue
            if _is_entry(sample) and all(isinstance(sample.get(key), str) for key in ("prompt", "mode", "text")):
                found.append(sample)
    except FileNotFoundError:
        pass
    return found
