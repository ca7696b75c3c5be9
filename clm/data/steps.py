"""How many samples an epoch has, and how many optimizer steps and tokens a run: arithmetic that needs no text."""

import math
from dataclasses import dataclass


def count_samples(tokens: int, block_size: int, sampling: str) -> int:
    """How many samples an epoch has: non-overlapping `blocks`, or `windows`, one for every start."""
    if sampling == "windows":
        return max(0, tokens - block_size)
    return max(0, (tokens - 1) // block_size)


@dataclass(frozen=True)
class EpochSteps:
    """The optimizer steps of one epoch: `full` ones, and whether a short one follows."""

    full: int
    short: bool

    @property
    def total(self) -> int:
        """Steps that the Trainer runs: it doesn't skip the short one."""
        return self.full + self.short


def count_steps(samples: int, samples_per_step: int) -> EpochSteps:
    """Optimizer steps in an epoch of `samples`, `samples_per_step` = batch x accumulation x processes."""
    return EpochSteps(samples // samples_per_step, samples % samples_per_step > 0)


def total_steps(epoch: EpochSteps, max_steps: int, num_train_epochs: float) -> int:
    """Optimizer steps of a whole run, as the Trainer counts them: max_steps, else the epochs' steps rounded up."""
    return max_steps if max_steps > 0 else math.ceil(num_train_epochs * max(epoch.total, 1))


def tokens_trained(step: int, samples: int, samples_per_step: int, block_size: int) -> int:
    """Labels predicted in the first `step` optimizer steps, short last steps of epochs counted as they are."""
    epochs, steps = divmod(step, count_steps(samples, samples_per_step).total)
    return (epochs * samples + min(samples, steps * samples_per_step)) * block_size
