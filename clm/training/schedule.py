"""The one home of learning rates, and of the decay that goes with them: what the Trainer sets, and what plan, explain
and forecast assume.

A new schedule is a branch in `scheduler`, and its name among `lr_scheduler_type`'s values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clm.config.recipe import Recipe

if TYPE_CHECKING:  # both take seconds to import, and an explanation has no use for them
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

FOLLOWS_THE_LOSS = ("reduce_lr_on_plateau", "greedy")  # unknown before the run
FEWEST_REMEMBERED = 60  # steps: a run whose epochs have three learned less with fewer (docs/data-limited.md)


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


def weight_decay(recipe: Recipe, steps_in_epoch: float) -> float:
    """The recipe's `weight_decay`, or the one with which the weights remember `weight_decay_epochs`.

    Under AdamW and Muon they are an average of the updates of the last 1 / (rate x decay) steps (Wang & Aitchison 2024,
    arXiv 2405.13698). That is never made less than FEWEST_REMEMBERED.

    Args:
        steps_in_epoch: optimizer steps in an epoch, a short last one counted as the part that it is.
    """
    epochs = recipe.run.weight_decay_epochs
    if epochs is None:
        return recipe.training.get("weight_decay") or 0.0
    return 1 / (recipe.training["learning_rate"] * max(epochs * steps_in_epoch, FEWEST_REMEMBERED))


def scheduler(optimizer: Optimizer, training: Mapping[str, Any], total_steps: int) -> LRScheduler:
    """The schedule of a run of `total_steps`, which sets the learning rate of `optimizer` at each of its steps.

    Args:
        training: TrainingArguments' keywords: lr_scheduler_type, lr_scheduler_kwargs, warmup_steps.
    """
    from transformers import get_scheduler

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
    factor = _usual_factor(training, total_steps) or _factor_of_scheduler(training, total_steps)
    return rate * np.array([factor(step) for step in steps])


def _factor_of_scheduler(training: Mapping[str, Any], total_steps: int) -> Callable[[int], float]:
    """What `scheduler` multiplies the learning rate by at a step."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=training["learning_rate"])
    return scheduler(optimizer, training, total_steps).lr_lambdas[0]


def _usual_factor(training: Mapping[str, Any], total_steps: int) -> Callable[[int], float] | None:
    """The same of the usual schedules, to the last bit and without torch; None of the others.

    They are written here once more, after transformers' get_linear_schedule_with_warmup and so on, since an explanation
    needs those of all its references. tests/training/test_schedule.py compares each with transformers'.
    """
    warmup, options = warmup_steps(training, total_steps), training.get("lr_scheduler_kwargs") or {}
    kind, left = training.get("lr_scheduler_type", "linear"), max(1, total_steps - warmup)
    if kind == "constant":
        return lambda step: 1.0
    waves, least = options.get("num_cycles", 0.5), 0.0
    if kind == "cosine_with_min_lr":
        least = options.get("min_lr_rate")
        least = options["min_lr"] / training["learning_rate"] if least is None else least

    def fall(step: int) -> float:
        return max(0.0, (total_steps - step) / left)

    def swing(step: int) -> float:
        factor = 0.5 * (1.0 + math.cos(math.pi * waves * 2.0 * ((step - warmup) / left)))
        return max(0.0, factor * (1 - least) + least)

    usual = {"constant_with_warmup": lambda _: 1.0, "linear": fall, "cosine": swing, "cosine_with_min_lr": swing}
    if kind == "warmup_stable_decay" and options.keys() <= {"num_decay_steps", "decay_type", "min_lr_ratio"}:
        return _stable_then_linear(warmup, total_steps, **options) if options.get("decay_type") == "linear" else None
    after = usual.get(kind)
    return after and (lambda step: step / max(1, warmup) if step < warmup else after(step))


def _stable_then_linear(
    warmup: int, total_steps: int, num_decay_steps: int, decay_type: str, min_lr_ratio: float = 0.0
) -> Callable[[int], float]:
    """Warmup-stable-decay whose last `num_decay_steps` fall linearly, which is its only `decay_type` here."""

    def factor(step: int) -> float:
        if warmup <= step < total_steps - num_decay_steps:
            return 1.0
        if step >= max(warmup, total_steps):
            return min_lr_ratio
        share = step / warmup if step < warmup else 1.0 - (step - (total_steps - num_decay_steps)) / num_decay_steps
        return max(0.0, share * (1.0 - min_lr_ratio) + min_lr_ratio)

    return factor
