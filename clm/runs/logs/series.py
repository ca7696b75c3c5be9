"""The losses of one column as they come, in memory that doesn't grow with the log."""

import math
from array import array

import numpy as np

MOST_POINTS = 20_000  # twice as many are kept at most, then neighbours are averaged
LARGEST_STEP = 1e9  # no run has more optimizer steps; a time stamp does


class Series:
    """(step, loss) points in parts: a new part begins wherever the log's steps go back.

    A log with more than twice MOST_POINTS of them is averaged: a point is then the mean of `stride` losses, at the last
    of their steps.
    """

    def __init__(self) -> None:
        self.points = self.not_finite = 0
        self.trailing: list[float] = []  # steps of the losses since the last finite one, none of them finite; a few
        self.fractional = 0  # steps that aren't whole
        self.stride = 1
        self._parts: list[tuple[int, array, array]] = []
        self._sum, self._count, self._step = 0.0, 0, 0.0

    def add(self, step: float, loss: float, part: int) -> None:
        """A loss of a part of the log; one that isn't finite is counted and left out."""
        if not math.isfinite(loss):
            self.not_finite += 1
            self.trailing = [*self.trailing, step][:8]
            return
        self.trailing = []
        self.points += 1
        self.fractional += not float(step).is_integer()
        if not self._parts or self._parts[-1][0] != part:
            self._flush()
            self._parts.append((part, array("d"), array("d")))
        self._sum, self._count, self._step = self._sum + loss, self._count + 1, step
        if self._count >= self.stride:
            self._flush()
            if sum(len(steps) for _, steps, _ in self._parts) > 2 * MOST_POINTS:
                self._thin()

    def parts(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Steps and losses of each part that has any."""
        self._flush()
        return {part: (np.array(steps), np.array(losses)) for part, steps, losses in self._parts if len(steps)}

    def _flush(self) -> None:
        if self._count:
            self._parts[-1][1].append(self._step)
            self._parts[-1][2].append(self._sum / self._count)
            self._sum, self._count = 0.0, 0

    def _thin(self) -> None:
        self.stride *= 2
        thinned = []
        for part, steps, losses in self._parts:
            last = steps[-1:] if len(steps) % 2 else array("d")
            means = array("d", ((a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=False)))
            thinned.append((part, steps[1::2] + last, means + (losses[-1:] if last else array("d"))))
        self._parts = thinned
