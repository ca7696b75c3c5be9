"""What is wrong, if a run's curve shows it. Each check is a function of the evidence that returns a line or None."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clm.insight.curve import Curve

FEWEST_LOGS = 8  # training losses before a shape is read into them


@dataclass(frozen=True)
class Evidence:
    """A curve and what it is to be held against.

    `unigram` is the entropy of the training text's tokens in nats, None where it isn't measured; `tokens_per_pass`
    those of one pass over the text; `usual_rate` a learning rate that suits a model of this size; `histories` the
    log_history of every state that the run's folder holds.
    """

    curve: Curve
    vocab_size: int
    unigram: float | None
    tokens_per_step: int
    tokens_per_pass: int
    accumulation: int
    peak_rate: float
    usual_rate: float
    histories: Sequence[Sequence[Mapping[str, Any]]] = ()

    @property
    def reference(self) -> float:
        """The unigram entropy, or where it isn't measured a low guess at it."""
        return self.unigram or 0.75 * math.log(self.vocab_size)

    def passes(self, step: float) -> float:
        """Passes over the text until `step`."""
        return step * self.tokens_per_step / self.tokens_per_pass

    def gaps(self) -> list[tuple[float, float, float]]:
        """(step, training, validation loss) wherever both are known."""
        width = max(1.0, self.curve.last_step / 20)
        pairs = zip(self.curve.steps, self.curve.losses, strict=True)
        rows = ((step, self.curve.train_at(step, width), loss) for step, loss in pairs)
        return [row for row in rows if row[1] is not None]


def find(evidence: Evidence) -> list[dict[str, str]]:
    """Every fault that shows, as {"name", "text"}; a graver one silences those that follow from it."""
    found = {}
    for name, check, silenced_by in CHECKS:
        if not silenced_by & found.keys() and (text := check(evidence)):
            found[name] = text
    return [{"name": name, "text": text} for name, text in found.items()]


def _smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Running medians, as many as there are values."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)


def _resumes(e: Evidence) -> str | None:
    known: dict[tuple[int, str], float] = {}
    for history in e.histories:
        for entry in history:
            for key in ("loss", "eval_loss"):
                if key not in entry:
                    continue
                before = known.setdefault((entry["step"], key), entry[key])
                if not math.isclose(before, entry[key], rel_tol=1e-5):
                    return (
                        f"at step {entry['step']:,} one saved state has a {key} of {before:.4f}, another "
                        f"{entry[key]:.4f}: "
                        "the run was repeated from a checkpoint and didn't repeat itself (other hardware, another "
                        "number "
                        "of processes, or text that changed)"
                    )
    return None


def _accumulation(e: Evidence) -> str | None:
    gaps = e.gaps()
    if e.accumulation < 2 or len(gaps) < 2:
        return None
    ratio = float(np.median([train / validation for _, train, validation in gaps]))
    for factor, word in ((e.accumulation, "too high"), (1 / e.accumulation, "too low")):
        if abs(math.log(ratio / factor)) < 0.15:
            return (
                f"the training loss is {ratio:.2f} times the validation loss all along, and a step accumulates "
                f"{e.accumulation} batches: the loss is summed or divided once too often, so it is {word} by that "
                "factor"
            )
    return None


def _too_good(e: Evidence) -> str | None:
    early = e.curve.train_losses[e.passes(1) * e.curve.train_steps <= 2]
    limit = 0.25 * e.reference
    if len(early) >= FEWEST_LOGS and _smooth(early)[-1] < limit:
        return (
            f"the training loss is {_smooth(early)[-1]:.2f} within two passes, below a quarter of the unigram "
            "entropy: no "
            "model of a text does that; are the labels shifted by one, or does the text repeat itself?"
        )
    if len(e.curve.losses) and e.curve.losses.min() < limit:
        return (
            f"the validation loss is {e.curve.losses.min():.2f}, below a quarter of the unigram entropy: too good "
            "for text; "
            "are the labels shifted by one, or is this text in the training text?"
        )
    return None


def _leak_to_validation(e: Evidence) -> str | None:
    gaps = e.gaps()[-3:]
    if len(gaps) >= 2 and all(train - validation > max(0.75, 0.15 * train) for _, train, validation in gaps):
        return (
            f"the validation loss is {gaps[-1][1] - gaps[-1][2]:.2f} nats below the training loss: the validation "
            "text is "
            "easier, or stands in the training text many times"
        )
    return None


def _leak_in_training(e: Evidence) -> str | None:
    early = [row for row in e.gaps() if e.passes(row[0]) <= 1.2]
    wide = [row for row in early if row[2] - row[1] > max(0.75, 0.15 * row[2])]
    if len(wide) >= 2 and wide[-1] is early[-1]:
        step, train, validation = wide[0]
        return (
            f"by step {step:,.0f}, within the first pass, the training loss is {validation - train:.2f} nats below the "
            "validation loss: the training text repeats itself (duplicates), or the validation text is of another kind"
        )
    return None


def _above_uniform(e: Evidence) -> str | None:
    limit = math.log(e.vocab_size)
    worst = max([*e.curve.train_losses[:1], *_smooth(e.curve.train_losses), *e.curve.losses], default=0.0)
    if worst > 1.05 * limit:
        return (
            f"a loss of {worst:.2f} is above ln({e.vocab_size:,}) = {limit:.2f}, what a model scores that knows "
            "nothing: "
            "initial weights too large, labels of another tokenizer, or a learning rate that ruins the model"
        )
    return None


def _divergence(e: Evidence) -> str | None:
    losses = e.curve.train_losses
    if len(losses) < FEWEST_LOGS:
        return None
    smooth = _smooth(losses)
    best, last = int(smooth.argmin()), float(np.median(smooth[-3:]))
    if last - smooth[best] > 0.5:
        return (
            f"the training loss rose from {smooth[best]:.2f} at step {e.curve.train_steps[best]:,.0f} to "
            f"{last:.2f}, and "
            "stayed there: it diverged; take a lower learning rate or a longer warmup, and keep clipping on"
        )
    return None


def _spikes(e: Evidence) -> str | None:
    losses = e.curve.train_losses
    if len(losses) < 2 * FEWEST_LOGS:
        return None
    rest = losses - _smooth(losses, 7)
    limit = max(0.4, 8 * 1.4826 * float(np.median(np.abs(rest))))
    where = np.flatnonzero(rest[3:] > limit) + 3
    if len(where):
        shown = ", ".join(f"{e.curve.train_steps[i]:,.0f} (+{rest[i]:.2f})" for i in where[:4])
        return f"the training loss spikes at step {shown}: a bad batch of text, or a learning rate on the edge"
    return None


def _rate_too_high(e: Evidence) -> str | None:
    losses = e.curve.train_losses
    if len(losses) < 2 * FEWEST_LOGS or e.peak_rate <= 5 * e.usual_rate:
        return None
    late = _smooth(losses)[len(losses) // 2 :]
    if late[-1] > 0.93 * e.reference and late[0] - late[-1] < 0.1:
        return (
            f"the training loss stays at {late[-1]:.2f}, about that of a unigram model, and the peak learning rate of "
            f"{e.peak_rate:.1e} is {e.peak_rate / e.usual_rate:.0f} times what suits this size: it is too high"
        )
    return None


def _rate_too_low(e: Evidence) -> str | None:
    losses = e.curve.train_losses
    if len(losses) < 2 * FEWEST_LOGS or e.peak_rate >= e.usual_rate / 5:
        return None
    smooth = _smooth(losses)
    quarter = len(smooth) // 4
    if smooth[-1] > 0.93 * e.reference and smooth[-1 - quarter] - smooth[-1] > 0.02:
        return (
            f"the training loss is {smooth[-1]:.2f}, still about that of a unigram model, and falling slowly; the peak "
            f"learning rate of {e.peak_rate:.1e} is {e.usual_rate / e.peak_rate:.0f} times below what suits this "
            "size: too low"
        )
    return None


def _plateau(e: Evidence) -> str | None:
    losses = e.curve.train_losses
    if e.unigram is None or len(losses) < 2 * FEWEST_LOGS:
        return None
    late = losses[len(losses) // 2 :]
    first, last = np.array_split(late, 2)
    flat = abs(first.mean() - last.mean()) < 0.02 + 2 * late.std() / math.sqrt(len(late))
    if flat and abs(late.mean() / e.unigram - 1) < 0.04:
        return (
            f"the training loss has stayed at {late.mean():.2f}, the unigram entropy ({e.unigram:.2f}): the model "
            "has learned "
            "how often each token occurs and nothing of their order; is the text shuffled, or does the model see "
            "its input?"
        )
    return None


def _overfitting(e: Evidence) -> str | None:
    steps, losses = e.curve.steps, e.curve.losses
    if len(losses) < 4:
        return None
    best = int(losses.argmin())
    if best <= len(losses) - 3 and losses[-1] - losses[best] > 0.03 and min(losses[best + 1 :]) > losses[best] + 0.005:
        train = e.curve.train_at(steps[best], e.curve.last_step / 10)
        if train is not None and e.curve.train_losses[-3:].mean() < train:
            return (
                f"the validation loss turned up: {losses[best]:.4f} at step {steps[best]:,.0f} was the best, now it is "
                f"{losses[-1]:.4f} while the training loss still falls ({e.passes(steps[-1]):.1f} passes): "
                "overfitting; stop "
                f"at step {steps[best]:,.0f}, raise dropout, or take more text"
            )
    return None


Check = Callable[[Evidence], str | None]
CHECKS: tuple[tuple[str, Check, set[str]], ...] = (
    ("non-determinism between resumes", _resumes, set()),
    ("mis-scaled accumulation", _accumulation, set()),
    ("loss above ln(vocabulary)", _above_uniform, {"mis-scaled accumulation"}),
    ("divergence", _divergence, set()),
    ("too good to be true", _too_good, {"mis-scaled accumulation"}),
    ("training text in validation", _leak_to_validation, {"mis-scaled accumulation", "too good to be true"}),
    ("duplicate training text", _leak_in_training, {"mis-scaled accumulation", "too good to be true"}),
    ("learning rate too high", _rate_too_high, {"divergence"}),
    ("learning rate too low", _rate_too_low, set()),
    ("plateau at the unigram entropy", _plateau, {"learning rate too high", "learning rate too low"}),
    ("spikes", _spikes, {"divergence"}),
    ("overfitting", _overfitting, {"divergence"}),
)
