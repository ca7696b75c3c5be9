"""The losses of one column as they come, in memory that doesn't grow with the log."""

from array import array

import numpy as np

MOST_POINTS = 20_000  # twice as many are kept at most, then neighbours are averaged
LARGEST = 1e30  # a greater loss counts as infinite, so that sums stay finite
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
        self._part: int | None = None
        self._kept = 0
        self._sum, self._count, self._step = 0.0, 0, 0.0

    def add(self, step: float, loss: float, part: int) -> None:
        """A loss of a part of the log; one that isn't finite is counted and left out."""
        if not -LARGEST < loss < LARGEST:
            self.not_finite += 1
            self.trailing = [*self.trailing, step][:8]
            return
        if self.trailing:
            self.trailing = []
        if part != self._part:
            self._flush()
            self._part = part
            self._parts.append((part, array("d"), array("d")))
        self.points += 1
        self.fractional += step % 1 != 0
        self._sum += loss
        self._count += 1
        self._step = step
        if self._count >= self.stride:
            self._flush()

    def parts(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Steps and losses of each part that has any."""
        self._flush()
        return {part: (np.array(steps), np.array(losses)) for part, steps, losses in self._parts if len(steps)}

    def _flush(self) -> None:
        if not self._count:
            return
        _, steps, losses = self._parts[-1]
        steps.append(self._step)
        losses.append(self._sum / self._count)
        self._sum, self._count, self._kept = 0.0, 0, self._kept + 1
        if self._kept > 2 * MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        self.stride *= 2
        thinned = []
        for part, steps, losses in self._parts:
            last = steps[-1:] if len(steps) % 2 else array("d")
            means = array("d", ((a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=False)))
            thinned.append((part, steps[1::2] + last, means + (losses[-1:] if last else array("d"))))
        self._parts, self._kept = thinned, sum(len(steps) for _, steps, _ in thinned)
