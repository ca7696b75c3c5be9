"""What a schedule does to a loss, step by step: how far training has come, and how much of its noise is taken out."""

from collections.abc import Callable, Sequence

import numpy as np

from clm.explain.forecast.facts import largeness
from clm.explain.scaling import annealed

MEMORY_SHARE = 0.025  # of all steps at the peak rate: how long a fall of the learning rate takes to take effect
PROGRESS_POWERS = (0.7, 0.6)  # of the learning rate, in small and large models: at a tenth of the peak, a step still
# brings a fifth or a quarter. Chosen by the score, as the noise powers and the growth
NOISE_POWERS = (0.7, 1.0)  # in a small model the last of a decay brings more than in proportion
GROWTH = 0.25  # the power of progress with which the noise grows: what a decay takes off is more the later it comes
GRID = 300


def by_size(powers: tuple[float, float], parameters: float | None) -> float:
    """The power for a model of this size, from those of small and large models."""
    large = largeness(parameters) if parameters else 1.0
    return (1 - large) * powers[0] + large * powers[1]


class Law:
    """A run's schedule in the terms that the loss follows, at any step.

    `lr_sum` and `lr_annealed`, (points,) at the steps of `grid`, are the two quantities of Tissue et al. 2024
    (arXiv 2408.11029) in units of the peak rate; see scaling.annealed. `last_rate`, in the same units, is what the
    schedule ends at. `penalty` gives what overfitting adds to the
    validation loss at a step, nats, where that is known.
    """

    def __init__(
        self,
        rates_at: Callable[[Sequence[int]], np.ndarray],
        total_steps: int,
        steps_per_pass: float,
        worth: float = 1.0,
        parameters: float | None = None,
    ) -> None:
        """Tabulate the schedule.

        Args:
            rates_at: the learning rates at steps from 1 to total_steps.
            total_steps: of the whole run.
            steps_per_pass: optimizer steps in which as many tokens are trained on as the text has.
            worth: what a step is worth in steps of the run that the law was fitted to.
            parameters: without embeddings, which set the powers of the rates; None counts as a large model.
        """
        spread = np.concatenate((np.geomspace(1, total_steps, GRID), np.linspace(1, total_steps, GRID)))
        self.grid = np.unique(np.round(spread).astype(int))
        self.total_steps, self.steps_per_pass = total_steps, steps_per_pass
        self.penalty: Callable[[float], float] = lambda step: 0.0
        spacing = np.diff(self.grid, prepend=0).astype(float)
        rates = np.asarray(rates_at(self.grid), float)
        at_peak = rates / rates.max() if rates.any() else np.ones(len(rates))  # of one step the rate after it may be 0
        self.last_rate = float(at_peak[-1])
        memory = MEMORY_SHARE * float((at_peak * spacing).sum())
        self.lr_sum, self.lr_annealed = annealed(at_peak, spacing, memory, by_size(NOISE_POWERS, parameters))
        self._progress = worth * np.cumsum(at_peak ** by_size(PROGRESS_POWERS, parameters) * spacing)
        self.warmup_end = int(self.grid[int((at_peak > 0.99).argmax())])

    def terms(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """lr_sum, lr_annealed and ln(passes over the text) at `steps`, the last at least 0."""
        repeated = np.log(np.maximum(1.0, np.asarray(steps) / self.steps_per_pass))
        return np.interp(steps, self.grid, self.lr_sum), np.interp(steps, self.grid, self.lr_annealed), repeated

    def penalties(self, steps: np.ndarray) -> np.ndarray:
        """What overfitting adds at `steps`."""
        return np.array([self.penalty(float(step)) for step in steps])

    def noise(self, steps: np.ndarray) -> np.ndarray:
        """What the peak rate's noise still costs at `steps`, in units of what it would at its peak and at the end."""
        _, annealed, _ = self.terms(steps)
        return (1 - annealed) * (self.progress(steps) / self._progress[-1]) ** GROWTH

    def progress(self, steps: np.ndarray) -> np.ndarray:
        """How far training has come by `steps`: the sum of a power of the rates (PROGRESS_POWERS), in peak rates."""
        return np.interp(steps, self.grid, self._progress)
