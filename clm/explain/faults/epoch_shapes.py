"""What a training loss does where an epoch begins: it falls there, or rises. Each check gives a line, or None."""

import math

import numpy as np

from clm.explain.faults.evidence import Evidence

FEWEST_EACH_SIDE = 3  # logged losses before and after a boundary
LEAST_JUMP = 0.05  # nats
WINDOW = 0.15  # of an epoch, to each side of its boundary


def _jumps(e: Evidence) -> list[float]:
    """How the training loss changes at each epoch's start, beyond its trend; none where the log is too coarse."""
    if not (e.tokens_per_epoch and e.tokens_per_step):
        return []
    epoch = e.tokens_per_epoch / e.tokens_per_step  # steps
    steps, losses = e.curve.train_steps, e.curve.train_losses
    found = []
    for number in range(1, math.floor(e.curve.last_step / epoch - WINDOW) + 1):
        near = np.abs(steps - number * epoch) <= WINDOW * epoch
        jump = _jump(steps[near] - number * epoch, losses[near])
        if jump is None:
            return []
        found.append(jump)
    return found


def _jump(steps: np.ndarray, losses: np.ndarray) -> float | None:
    """How much higher a line through the losses is after step 0, its slope the same; 0 where that may be noise.

    None where too few losses are known.
    """
    after = steps > 0
    if min(after.sum(), (~after).sum()) < FEWEST_EACH_SIDE:
        return None
    terms = np.stack([np.ones(len(steps)), steps / np.abs(steps).max(), after], axis=1)
    fitted, *_ = np.linalg.lstsq(terms, losses, rcond=None)
    variance = float(((losses - terms @ fitted) ** 2).sum()) / (len(losses) - terms.shape[1])
    error = math.sqrt(variance * float(np.linalg.pinv(terms.T @ terms)[2, 2]))
    return float(fitted[2]) if abs(fitted[2]) > max(LEAST_JUMP, 3 * error) else 0.0


def stairs(e: Evidence) -> str | None:
    """A training loss that falls at each epoch's start: a step of a stair."""
    jumps = _jumps(e)
    if len(jumps) >= 2 and all(jump < 0 for jump in jumps[:2]):
        return (
            f"the training loss falls by {-np.mean(jumps[:2]):.2f} nats where an epoch begins; very likely the model "
            "remembers the samples of the epoch before, which a large model on a small text does; that is no fault, "
            "but only the validation loss tells what is learned: stop where it is lowest, or take more text"
        )
    return None


def sawtooth(e: Evidence) -> str | None:
    """A training loss that rises at each epoch's start, and falls within each."""
    jumps = _jumps(e)
    if len(jumps) >= 2 and all(jump > 0 for jump in jumps[:2]):
        return (
            f"the training loss rises by {np.mean(jumps[:2]):.2f} nats where an epoch begins, and falls within each; "
            "very likely the samples come in the text's own order, from hard to easy, or the logged loss is a mean "
            "since the epoch's start: shuffle samples anew in each epoch (here EpochOrder does), and log each step's"
        )
    return None
