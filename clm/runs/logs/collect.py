"""Rows of named values, from whatever log they are: the columns that matter, kept apart.

A log has millions of rows of few shapes, so what a shape's names mean is worked out once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clm.runs.logs.columns import LOSSES, classify
from clm.runs.logs.series import LARGEST_STEP, Series

MOST_NAMES = 40  # that are remembered, of columns that aren't read and of runs
MOST_SHAPES = 1000  # that are remembered
_SUMMARY = "train_runtime"  # a row of the Trainer that has it has the mean over all steps as train_loss


@dataclass(frozen=True)
class Shape:
    """What the names of a row mean: (rank, name) of steps, the best first, (name, kind) of losses, names of the run."""

    steps: tuple[tuple[int, str], ...]
    losses: tuple[tuple[str, str], ...]
    runs: tuple[str, ...]


class Collector:
    """Takes rows as they come. `log.py` makes a curve of what it holds."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}  # losses, by column
        self.others: dict[str, None] = {}  # columns that don't matter
        self.without_steps: dict[str, None] = {}  # losses in rows that have no step
        self.too_large: dict[str, float] = {}  # steps that can't be any, such as times, by column
        self.runs: dict[str, None] = {}  # values of a column that names the run
        self.steps: tuple[int, str] | None = None  # rank and name of the column of steps
        self.parts = 1  # a new one begins where the steps go back
        self.total_steps: int | None = None  # if the log says it
        self._last: dict[str, float] = {}
        self._shapes: dict[tuple[str, ...], Shape] = {}

    def take(self, row: Mapping[str, Any]) -> None:
        """A row: names and values, numbers or texts; what doesn't matter is passed over."""
        names = tuple(row)
        shape = self._shapes.get(names) or self._shape(names)
        for name in shape.runs:
            if row[name] not in ("", None) and len(self.runs) < MOST_NAMES:
                self.runs[str(row[name])] = None
        step = self._step(shape, row)
        for name, kind in shape.losses:
            loss = as_number(row[name])
            if loss is not None and step is not None:
                self.add(name, kind, step, loss)
            elif loss is not None:
                self.without_steps[name] = None

    def add(self, name: str, kind: str, step: float, loss: float) -> None:
        """A loss of the column `name` at a step; where a kind's steps go back, a new part of the log begins."""
        if not 0 <= step <= LARGEST_STEP:
            return
        if step < self._last.get(kind, 0):
            self.parts, self._last = self.parts + 1, {}
        self._last[kind] = step
        series = self.series.get(name)
        if series is None:
            series = self.series[name] = Series()
        series.add(step, loss, self.parts - 1)

    def says_total(self, steps: float | None) -> None:
        """The log says how many steps the run has."""
        if steps and 0 < steps < LARGEST_STEP:
            self.total_steps = int(steps)

    def by(self, rank: int, name: str) -> bool:
        """Whether steps of this column are read: what was read by a worse one is dropped, a worse one isn't read."""
        if self.steps is None or rank < self.steps[0]:
            if self.steps is not None:
                self.series, self.parts, self._last = {}, 1, {}
            self.steps = rank, name
        return rank == self.steps[0]

    def _shape(self, names: tuple[str, ...]) -> Shape:
        known = [(name, column) for name in names if (column := classify(name))]
        if len(self.others) < MOST_NAMES:
            self.others |= dict.fromkeys(name for name in names if classify(name) is None)
        summary = _SUMMARY in names
        shape = Shape(
            tuple(sorted((column.rank, name) for name, column in known if column.kind == "steps")),
            tuple((name, column.kind) for name, column in known if column.kind in LOSSES and not summary),
            tuple(name for name, column in known if column.kind == "run"),
        )
        if len(self._shapes) < MOST_SHAPES:
            self._shapes[names] = shape
        return shape

    def _step(self, shape: Shape, row: Mapping[str, Any]) -> float | None:
        for rank, name in shape.steps:
            step = as_number(row[name])
            if step is not None and step >= 0 and shape.losses:
                if not step <= LARGEST_STEP:
                    self.too_large.setdefault(name, step)
                    return None
                return step if self.by(rank, name) else None
        return None


def as_number(value: Any) -> float | None:
    """A number, or a text that is one, NaN and infinity among them; None for anything else."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
