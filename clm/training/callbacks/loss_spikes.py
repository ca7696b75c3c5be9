"""Steps whose loss is far above those before."""

import math
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

_STEPS_TO_KNOW = 20  # before which no loss is called a spike
_MEMORY = 0.98  # of the running mean: some 50 steps
_DEVIATIONS, _NATS = 6.0, 0.5  # above the mean, whichever is more


class LossSpikes(TrainerCallback, ExportableState):
    """Running mean and variance of the loss of an optimizer step; kept in the checkpoints.

    Attributes:
        mean: nats a token.
        variance: of that.
        steps: losses seen.
        saved_step: the checkpoint that a rollback goes to, one that comes in every run of the recipe; 0 for none.
    """

    def __init__(self) -> None:
        self.mean = self.variance = 0.0
        self.steps = self.saved_step = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {}, "attributes": dict(vars(self))}

    def is_one(self, loss: float) -> bool:
        """Whether `loss`, in nats a token, is a spike; it then counts as no more than the least one, and is let in."""
        least = self.mean + max(_DEVIATIONS * math.sqrt(self.variance), _NATS)
        spike = self.steps >= _STEPS_TO_KNOW and loss > least
        if spike:
            loss = least
        self.steps += 1
        weight = max(1 - _MEMORY, 1 / self.steps)
        difference = loss - self.mean
        self.mean += weight * difference
        self.variance = (1 - weight) * (self.variance + weight * difference**2)
        return spike
