"""The gradient noise scale: the batch, in tokens, up to which a larger one saves steps almost in proportion.

B_simple = tr(S) / |G|^2 with S the covariance of one token's gradient and G the true gradient: McCandlish et al. 2018
(arXiv 1812.06162). Where a step accumulates gradients, the norm after its first micro-batch and the norm of the full
step give unbiased estimates of both (appendix A.1); each is averaged over steps before their ratio is taken.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

SMOOTHING = 0.99  # of the running means, a step
FEWEST_STEPS = 20


class GradientNoiseScale(TrainerCallback, ExportableState):
    """Collects two norms a step; kept in the checkpoints. Nothing is measured where a step is one micro-batch."""

    def __init__(self) -> None:
        self._small: tuple[torch.Tensor, float] | None = None
        self._step_begins = True
        self._signal = self._noise = 0.0
        self._steps = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {}, "attributes": {key: vars(self)[key] for key in ("_signal", "_noise", "_steps")}}

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Wait for the step's first micro-batch."""
        self._step_begins = True

    def after_micro_batch(
        self,
        parameters: Iterable[torch.nn.Parameter],
        tokens: int,
        step_labels: int,
        processes: int,
        loss_scale: float | torch.Tensor = 1.0,
    ) -> None:
        """Take the gradients after a micro-batch that others follow; only a step's first one counts.

        Args:
            tokens: labels in this process's micro-batch.
            step_labels: how many the whole step has, over all processes.
            loss_scale: what fp16's loss is multiplied by, and so the gradients.
        """
        if not self._step_begins:
            return
        self._step_begins = False
        if tokens:
            self.first_micro_batch(parameters, tokens, tokens * processes / step_labels * loss_scale)

    @torch.no_grad()
    def first_micro_batch(
        self, parameters: Iterable[torch.nn.Parameter], tokens: int, share: float | torch.Tensor
    ) -> None:
        """Take the gradients as they are after the first micro-batch of a step.

        Args:
            tokens: labels in the micro-batch.
            share: what these gradients are of the micro-batch's mean gradient: its part in the step's loss, times
                what the loss is scaled by.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:  # FSDP2 keeps them to itself until the last micro-batch
            self._small = (torch.nn.utils.get_total_norm(gradients) / share, tokens)

    @property
    def first_norm(self) -> torch.Tensor | None:
        """The norm after the first micro-batch of the step under way, on the device; None where it has none."""
        return self._small[0] if self._small else None

    def full_step(self, norm: float, tokens: int, small_norm: float | None = None) -> None:
        """Take the norm of the full step's mean gradient over `tokens` labels, before clipping.

        Args:
            norm: that norm.
            tokens: labels of the step.
            small_norm: `first_norm`, if it was read already.
        """
        if self._small is None:
            return
        small = self._small[1]
        small_norm = float(self._small[0]) if small_norm is None else small_norm
        self._small = None
        if tokens <= small or not math.isfinite(norm + small_norm):  # fp16 overflowed
            return
        signal = (tokens * norm**2 - small * small_norm**2) / (tokens - small)
        noise = (small_norm**2 - norm**2) / (1 / small - 1 / tokens)
        self._signal = SMOOTHING * self._signal + (1 - SMOOTHING) * signal
        self._noise = SMOOTHING * self._noise + (1 - SMOOTHING) * noise
        self._steps += 1

    def tokens(self) -> float | None:
        """The noise scale in tokens, or None where too few steps were measured, or the noise hides the signal."""
        if self._steps < FEWEST_STEPS or self._signal <= 0 or self._noise <= 0:
            return None
        return self._noise / self._signal
