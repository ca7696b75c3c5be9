"""What a column is, by its name: optimizer steps, a loss of training or validation, and the unit of that loss."""

import re
from dataclasses import dataclass
from functools import lru_cache

TRAINING, VALIDATION = "training", "validation"
LOSSES = (TRAINING, VALIDATION)
NATS, BITS, BITS_PER_BYTE, PERPLEXITY = "nats", "bits", "bits per byte", "perplexity"
UNITS = (NATS, BITS, BITS_PER_BYTE, PERPLEXITY)  # the first is taken where there are several
NTH = "#"  # of a log that has no steps: the number of the training loss

_VALIDATION = {"val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "holdout", "tel", "v"}
_TRAINING = {"train", "training", "trl", "t", "tr", "trn"}
_PLAIN = {
    "loss", "lm", "ce", "cross", "entropy", "nll", "avg", "average", "mean", "per", "token", "metrics", "metric", "on",
    "nats", "perplexity", "ppl", "bpb", "bits", "bpt", "byte", "base", "log", "2", "model", "total", "in", "of", "the",
}  # fmt: skip
_OTHER = {  # what isn't the loss, though its name says loss
    "scale", "scaler", "scaling", "grad", "gradient", "min", "max", "minimum", "std", "var", "aux", "auxiliary", "z",
    "router", "balance", "balancing", "kl", "reward", "accuracy", "acc", "count", "best", "delta", "diff", "weight",
    "time", "word", "char", "chars", "ratio", "norm", "runtime", "mtp", "spike", "spikes",
}  # fmt: skip
_STEPS = (  # the better names first
    {"global step", "train global step", "trainer global step"},
    {"step", "steps", "optimizer step", "train step", "training step", "opt step"},
    {"iter", "iters", "iteration", "iterations", "iter num", "update", "updates", "num updates"},
)
_RUNS = {"run", "run name", "run id", "trial", "trial id", "experiment"}


@dataclass(frozen=True)
class Column:
    """A column that matters. `kind` is TRAINING, VALIDATION, "steps" or "run"; the lower `rank`, the better the name.

    `run` is the name of the run that stands in front, as W&B's exports have it.
    """

    kind: str
    rank: int
    unit: str = NATS
    run: str = ""


@lru_cache(maxsize=4096)
def classify(name: str) -> Column | None:
    """What the column `name` holds; None for one that doesn't matter here."""
    if name == NTH:
        return Column("steps", len(_STEPS) + 1)
    run, metric = _parted(name.strip())
    if metric.endswith(("__MIN", "__MAX")):
        return None
    words = _words(metric)
    joined = " ".join(words)
    for rank, names in enumerate(_STEPS):
        if joined in names:
            return Column("steps", len(_STEPS) if metric.startswith("_") else rank, run=run)
    if joined in _RUNS:
        return Column("run", 0)
    return _loss(set(words), run)


def is_time(name: str) -> bool:
    """Whether a column has times, by its name."""
    return bool({"time", "seconds", "timestamp", "elapsed", "minutes", "hours", "runtime"} & set(_words(name)))


def is_kind(name: str) -> bool:
    """Whether a name says training or validation."""
    return bool({*_words(name)} & (_TRAINING | _VALIDATION))


def _loss(words: set[str], run: str) -> Column | None:
    unit = _unit(words)
    if unit is None or words & _OTHER:
        return None
    kind = VALIDATION if words & (_VALIDATION | {"test"}) else TRAINING
    unknown = words - _VALIDATION - _TRAINING - _PLAIN
    return Column(kind, 10 * UNITS.index(unit) + min(9, len(unknown)), unit, run)


def _unit(words: set[str]) -> str | None:
    if words & {"ppl", "perplexity"}:
        return None if "byte" in words else PERPLEXITY
    if "bpb" in words or {"bits", "byte"} <= words:
        return BITS_PER_BYTE
    if words & {"bits", "bpt"} or {"base", "2"} <= words or {"log", "2"} <= words:
        return BITS
    return NATS if words & {"loss", "nll", "tel", "trl"} or {"cross", "entropy"} <= words else None


def _parted(name: str) -> tuple[str, str]:
    """The run and the metric of "run - metric"."""
    run, dash, metric = name.rpartition(" - ")
    return (run, metric) if dash else ("", name)


def _words(name: str) -> list[str]:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    name = re.sub(r"(train|training|val|valid|validation|eval|test|\bt|\bv)(?=loss|ppl|bpb|perplexity)", r"\1 ", name)
    return re.findall(r"[a-z]+|\d+", name)
