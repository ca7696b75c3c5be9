"""An optimizer step that is about to be taken: its gradients are there, and the weights haven't moved yet."""

import math
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor

from clm.errors import MachineError


@dataclass(frozen=True)
class Step:
    """What is known of such a step; `loss` and `gradient_norm` are over all processes, the norm before clipping."""

    number: int  # of the run, from 1
    epoch: int  # from 1
    number_in_epoch: int  # from 1
    learning_rate: float
    loss: float  # nats a token
    gradient_norm: float
    labels: int

    def __str__(self) -> str:
        place = f"batch {self.number_in_epoch:,} of epoch {self.epoch}"
        return f"step {self.number:,} (learning rate {self.learning_rate:.3g}, {place})"


def refuse_not_finite(step: Step) -> None:
    """Stop before such a step ruins the weights.

    Raises:
        MachineError: the gradient or the loss isn't finite.
    """
    for name, value in (("gradient", step.gradient_norm), ("loss", step.loss)):
        if not math.isfinite(value):
            raise MachineError(
                f"the {name} isn't finite at {step}: lower learning_rate or warm up for longer; the last checkpoint is "
                "intact"
            )


def read(*scalars: torch.Tensor | float | None) -> list[float | None]:
    """The numbers in fp32 scalars, on the host, which waits for the device once for all of them.

    Numbers and None stay what they are. Under FSDP2 every process has to call this.
    """
    scalars = [scalar.full_tensor() if isinstance(scalar, DTensor) else scalar for scalar in scalars]
    tensors = [scalar.detach().float().reshape(()) for scalar in scalars if isinstance(scalar, torch.Tensor)]
    values = iter(torch.stack(tensors).tolist() if tensors else [])
    return [next(values) if isinstance(scalar, torch.Tensor) else scalar for scalar in scalars]
