"""A run's curve as its log has it: losses, learning rates and gradient norms at optimizer steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clm.numbers import number


@dataclass(frozen=True)
class Curve:
    """Nats a token at optimizer steps: training losses, each a mean over the steps since the one before, and
    validation losses. `noise_scale` in tokens, None where it wasn't measured.
    """

    train_steps: np.ndarray
    train_losses: np.ndarray
    steps: np.ndarray
    losses: np.ndarray
    noise_scale: float | None = None

    @classmethod
    def of(cls, log_history: Sequence[Mapping[str, Any]]) -> "Curve":
        """The curve of a trainer_state.json's log_history; what isn't a finite number in it is left out."""
        train, validation, scales = (
            [(entry["step"], entry[key]) for entry in log_history if number(entry.get(key)) is not None]
            for key in ("loss", "eval_loss", "gradient_noise_scale")
        )
        return cls.from_points(train, validation, scales[-1][1] if scales else None)

    @classmethod
    def from_points(
        cls,
        train: Sequence[tuple[float, float]],
        validation: Sequence[tuple[float, float]],
        noise_scale: float | None = None,
    ) -> "Curve":
        """The curve of (step, loss) pairs; the last one counts where a step is there twice."""
        columns = [np.array(sorted(dict(pairs).items()), float).reshape(-1, 2).T for pairs in (train, validation)]
        return cls(*columns[0], *columns[1], noise_scale)

    @property
    def last_step(self) -> int:
        """The last step that anything is known of; 0 for an empty curve."""
        return int(max([0, *self.train_steps[-1:], *self.steps[-1:]]))

    @property
    def train_middles(self) -> np.ndarray:
        """The middle of the steps that each training loss is the mean of."""
        return (self.train_steps + np.concatenate(([0.0], self.train_steps[:-1])) + 1) / 2

    def until(self, step: float) -> "Curve":
        """What was known at `step`."""
        trained, seen = self.train_steps <= step, self.steps <= step
        return Curve(
            self.train_steps[trained], self.train_losses[trained], self.steps[seen], self.losses[seen], self.noise_scale
        )

    def without_training(self) -> "Curve":
        """The validation losses alone."""
        return Curve(np.empty(0), np.empty(0), self.steps, self.losses, self.noise_scale)

    def train_at(self, step: float, width: float) -> float | None:
        """The training loss around `step`, a mean over those within `width` steps of it; None where there is none."""
        near = np.abs(self.train_middles - step) <= width
        return float(self.train_losses[near].mean()) if near.any() else None
