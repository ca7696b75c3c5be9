"""fp16's loss scale: steps that it leaves out, and when it can't help any more.

fp16 holds no gradient below 6e-8. So the loss is multiplied by a scale before the backward pass, and the gradients are
divided by it afterwards (Micikevicius et al. 2018, *Mixed Precision Training*, arXiv 1710.03740). Where they overflow,
torch's GradScaler leaves the step out and halves the scale; after 2,000 steps without that it doubles it.
"""

import math
import warnings
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from clm.errors import MachineError
from clm.training.step import Step


class LossScale(TrainerCallback):
    """Lets the schedule count the steps that are left out, as all else does; without a scaler there are none."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        optimizer: Any,
        lr_scheduler: Any,
        **_: Any,
    ) -> None:
        """Step the schedule where the stock Trainer didn't."""
        skipped = getattr(optimizer, "step_was_skipped", False)
        if skipped and isinstance(lr_scheduler, LRScheduler):
            with warnings.catch_warnings():  # of a schedule that starts before its optimizer: the first steps overflow
                warnings.simplefilter("ignore", UserWarning)
                lr_scheduler.step()


def scale_of(scaler: torch.amp.GradScaler | None, device: torch.device) -> torch.Tensor | float:
    """What the gradients are multiplied by until they are clipped, without waiting for the device; 1 without a scaler.

    To be called after the first backward pass.
    """
    return 1.0 if scaler is None else scaler.scale(torch.ones((), device=device))


def overflows(scaler: torch.amp.GradScaler | None, step: Step) -> bool:
    """Whether the step's gradients overflow fp16, so that the scaler leaves it out; its loss is finite.

    Raises:
        MachineError: they would overflow without any scale, too.
    """
    if scaler is None or math.isfinite(step.gradient_norm) or not math.isfinite(step.loss):
        return False
    if scaler.get_scale() < 1:
        raise MachineError(
            f"the gradients overflow fp16 at {step}, whatever they are scaled by: lower learning_rate or warm up for "
            "longer, or train in fp32 (--bf16 false); the last checkpoint is intact"
        )
    return True
