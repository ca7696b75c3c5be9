"""The learning rate at any step of a recipe, as the Trainer will set it, without training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import get_scheduler

FOLLOWS_THE_LOSS = ("reduce_lr_on_plateau", "greedy")  # unknown before the run


def warmup_steps(training: Mapping[str, Any], total_steps: int) -> int:
    """Steps of warmup: below 1 it is a share of all steps, as TrainingArguments has it."""
    given = training.get("warmup_steps") or 0
    return math.ceil(total_steps * given) if given < 1 else int(given)


def learning_rates(training: Mapping[str, Any], total_steps: int, steps: Sequence[int]) -> np.ndarray | None:
    """The learning rate at each of `steps` (of 1 to total_steps), or None for a schedule that follows the loss.

    Args:
        training: TrainingArguments' keywords: lr_scheduler_type, lr_scheduler_kwargs, learning_rate, warmup_steps.
    """
    kind = training.get("lr_scheduler_type", "linear")
    if kind in FOLLOWS_THE_LOSS:
        return None
    rate = training["learning_rate"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_scheduler(
        kind,
        optimizer,
        num_warmup_steps=warmup_steps(training, total_steps),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=dict(training.get("lr_scheduler_kwargs") or {}),
    )
    factor = scheduler.lr_lambdas[0]
    return rate * np.array([factor(step) for step in steps])
