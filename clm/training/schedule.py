"""The one home of learning rates: what the Trainer sets, and what plan, explain and forecast assume.

A new schedule is a branch in `scheduler`, and its name among `lr_scheduler_type`'s values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

FOLLOWS_THE_LOSS = ("reduce_lr_on_plateau", "greedy")  # unknown before the run


def warmup_steps(training: Mapping[str, Any], total_steps: int) -> int:
    """Steps of warmup: below 1 it is a share of all steps, as TrainingArguments has it."""
    given = training.get("warmup_steps") or 0
    return math.ceil(total_steps * given) if given < 1 else int(given)


def endless_warmup(training: Mapping[str, Any], total_steps: int) -> str | None:
    """A line on a warmup that is longer than the run, None where it isn't."""
    warmup = warmup_steps(training, total_steps)
    if warmup <= total_steps:
        return None
    return (
        f"warning: warmup_steps {warmup:,} are more than the run's {total_steps:,} steps: the learning rate rises to "
        f"the end, which is {total_steps / warmup:.0%} of learning_rate; set warmup_steps 0.02, a share of any run"
    )


def scheduler(optimizer: torch.optim.Optimizer, training: Mapping[str, Any], total_steps: int) -> LRScheduler:
    """The schedule of a run of `total_steps`, which sets the learning rate of `optimizer` at each of its steps.

    Args:
        training: TrainingArguments' keywords: lr_scheduler_type, lr_scheduler_kwargs, warmup_steps.
    """
    return get_scheduler(
        training.get("lr_scheduler_type", "linear"),
        optimizer,
        num_warmup_steps=warmup_steps(training, total_steps),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=dict(training.get("lr_scheduler_kwargs") or {}),
    )


def learning_rates(training: Mapping[str, Any], total_steps: int, steps: Sequence[int]) -> np.ndarray | None:
    """The learning rate after each of `steps` is taken, or None for a schedule that follows the loss.

    Args:
        steps: optimizer steps; 0 is the start of the run, so rate 0 is the one that the first step is taken with.
        training: TrainingArguments' keywords: lr_scheduler_type, lr_scheduler_kwargs, learning_rate, warmup_steps.
    """
    if training.get("lr_scheduler_type") in FOLLOWS_THE_LOSS:
        return None
    rate = training["learning_rate"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    factor = scheduler(optimizer, training, total_steps).lr_lambdas[0]
    return rate * np.array([factor(step) for step in steps])
