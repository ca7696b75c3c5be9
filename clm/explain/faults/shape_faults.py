"""Faults that show in the shape of a curve. Each check gives a line that says what, where and why, or None."""

import math

import numpy as np

from clm.explain.faults.evidence import FEWEST_LOGS, Evidence, smooth

STILL = 0.02  # nats: what falls by less from half the steps to the end has stalled


def not_finite(e: Evidence) -> str | None:
    """Losses that end as NaN or infinity."""
    if e.lost_at is None:
        return None
    return (
        f"from step {e.lost_at:,.0f} on the loss is no finite number, and it stays so; the run is lost from there: "
        "start again from a checkpoint before it, with a lower learning rate, and look at the batch of that step"
    )


def divergence(e: Evidence) -> str | None:
    """A training loss that rose and stays up."""
    losses = e.curve.train_losses
    if len(losses) < FEWEST_LOGS:
        return None
    smoothed = smooth(losses)
    best, last = int(smoothed.argmin()), float(np.median(smoothed[-3:]))
    if last - smoothed[best] > 0.5:
        return (
            f"the training loss rose from {smoothed[best]:.2f} at step {e.curve.train_steps[best]:,.0f} to {last:.2f} "
            "and stayed there; it diverged: take a lower learning rate or a longer warmup, and keep clipping on"
        )
    return None


def spikes(e: Evidence) -> str | None:
    """Single training losses far above their neighbours."""
    losses = e.curve.train_losses
    if len(losses) < 2 * FEWEST_LOGS:
        return None
    rest = losses - smooth(losses, 7)
    limit = max(0.4, 8 * 1.4826 * float(np.median(np.abs(rest))))
    where = np.flatnonzero(rest[3:] > limit) + 3
    if len(where):
        shown = ", ".join(f"{e.curve.train_steps[i]:,.0f} (+{rest[i]:.2f})" for i in where[:4])
        return f"the training loss spikes at step {shown}: a batch of bad text, or a learning rate that is too high"
    return None


def rate_too_high(e: Evidence) -> str | None:
    """No progress, at a learning rate far above the usual."""
    losses = e.curve.train_losses
    if not e.past_plateau or not _rates_known(e) or e.peak_rate <= 10 * e.usual_rate:
        return None
    late = smooth(losses)[len(losses) // 2 :]
    if late[-1] > 0.93 * e.reference and late[0] - late[-1] < 0.1:
        return (
            f"the training loss stays at {late[-1]:.2f}, about that of a unigram model, and the peak learning rate of "
            f"{e.peak_rate:.1e} is {e.peak_rate / e.usual_rate:.0f} times what suits this size: it is too high"
        )
    return None


def rate_too_low(e: Evidence) -> str | None:
    """Slow progress, at a learning rate far below the usual."""
    losses = e.curve.train_losses
    if not e.past_plateau or not _rates_known(e) or e.peak_rate >= e.usual_rate / 5:
        return None
    smoothed = smooth(losses)
    quarter = len(smoothed) // 4
    if smoothed[-1] > 0.93 * e.reference and smoothed[-1 - quarter] - smoothed[-1] > 0.02:
        return (
            f"the training loss is {smoothed[-1]:.2f}, still about that of a unigram model, and falling slowly; the "
            f"peak learning rate of {e.peak_rate:.1e} is {e.usual_rate / e.peak_rate:.0f} times below what suits this "
            "size: too low"
        )
    return None


def plateau(e: Evidence) -> str | None:
    """A training loss that stays at the unigram entropy."""
    losses = e.curve.train_losses
    if e.unigram is None or not e.past_plateau:
        return None
    late = losses[len(losses) // 2 :]
    first, last = np.array_split(late, 2)
    flat = abs(first.mean() - last.mean()) < 0.02 + 2 * late.std() / math.sqrt(len(late))
    if flat and abs(late.mean() / e.unigram - 1) < 0.04:
        return (
            f"the training loss has stayed at {late.mean():.2f}, the unigram entropy ({e.unigram:.2f}); the model has "
            "learned how often each token occurs and nothing of their order: is the text shuffled, or does the model "
            "not see its input?"
        )
    return None


def stalled(e: Evidence) -> str | None:
    """A training loss that has stopped falling.

    From the middle of the steps so far to their end it falls by 0.06 nats or more in every reference run, whatever the
    schedule does.
    """
    steps, losses = e.curve.train_steps, e.curve.train_losses
    if len(losses) < 4 * FEWEST_LOGS:
        return None
    shares = steps / steps[-1]
    middle, end = losses[(shares > 0.45) & (shares <= 0.6)], losses[shares > 0.85]
    if min(len(middle), len(end)) < FEWEST_LOGS // 2:
        return None
    sure = math.sqrt(middle.var(ddof=1) / len(middle) + end.var(ddof=1) / len(end)) < STILL
    if sure and abs(middle.mean() - end.mean()) < STILL:
        return (
            f"the training loss is {end.mean():.3f} at the end and was {middle.mean():.3f} at half the steps: it "
            "stands still; is the learning rate zero, are weights frozen, or does the optimizer not step?"
        )
    return None


def overfitting(e: Evidence) -> str | None:
    """A validation loss that turned up while the training loss falls."""
    steps, losses = e.curve.steps, e.curve.losses
    if len(losses) < 4:
        return None
    best = int(losses.argmin())
    after = losses[best + 1 :]
    turned = len(after) > 1 and (min(after) > losses[best] + 0.005 or min(after[-3:]) > losses[best] + 0.1)
    if turned and losses[-1] - losses[best] > 0.03:
        train = e.curve.train_at(steps[best], e.curve.last_step / 10)
        if train is not None and e.curve.train_losses[-3:].mean() < train:
            when = f"after {e.epochs(steps[-1]):.1f} epochs" if e.tokens_per_epoch else f"by step {steps[-1]:,.0f}"
            return (
                f"the validation loss turned up {when}, while the training loss still "
                f"falls: {losses[best]:.4f} at step {steps[best]:,.0f} was the best, now it is {losses[-1]:.4f}; stop "
                "there, raise dropout, or take more text"
            )
    return None


def _rates_known(e: Evidence) -> bool:
    return e.peak_rate is not None and e.usual_rate is not None
