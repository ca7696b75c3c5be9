"""Rows of named values, from whatever log they are: the columns that matter, kept apart."""

from collections.abc import Iterable, Mapping
from typing import Any

from clm.errors import UserError
from clm.runs.logs.columns import LOSSES, Column, classify
from clm.runs.logs.series import LARGEST_STEP, Series

MOST_NAMES = 40  # that are remembered, of columns that aren't read and of runs
_SUMMARY = "train_runtime"  # a row of the Trainer that has it has the mean over all steps as train_loss


class Collector:
    """Takes rows as they come. `read.py` makes a curve of what it holds."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}  # losses, by column
        self.others: dict[str, None] = {}  # columns that don't matter
        self.without_steps: dict[str, None] = {}  # losses in rows that have no step
        self.runs: dict[str, None] = {}  # values of a column that names the run
        self.steps: tuple[int, str] | None = None  # rank and name of the column of steps
        self.parts = 1  # a new one begins where the steps go back
        self.total_steps: int | None = None  # if the log says it
        self._last: dict[str, float] = {}

    def take(self, row: Mapping[str, Any]) -> None:
        """A row: names and values, numbers or texts; what doesn't matter is passed over.

        Raises:
            UserError: its step is none.
        """
        if _SUMMARY in row:
            return
        known = [(name, column, row[name]) for name in row if (column := self._classified(name))]
        step = self._step(known)
        for name, column, value in known:
            loss = as_number(value) if column.kind in LOSSES else None
            if loss is None:
                continue
            if step is None:
                self.without_steps[name] = None
                continue
            self._turn(column.kind, step)
            self.series.setdefault(name, Series()).add(step, loss, self.parts - 1)

    def says_total(self, steps: float | None) -> None:
        """The log says how many steps the run has."""
        if steps and 0 < steps < LARGEST_STEP:
            self.total_steps = int(steps)

    def _classified(self, name: str) -> Column | None:
        column = classify(name)
        if column is None and len(self.others) < MOST_NAMES:
            self.others[name] = None
        return column

    def _step(self, known: Iterable[tuple[str, Column, Any]]) -> float | None:
        found = []
        for name, column, value in known:
            if column.kind == "run" and value not in ("", None) and len(self.runs) < MOST_NAMES:
                self.runs[str(value)] = None
            elif column.kind == "steps" and (number := as_number(value)) is not None and number >= 0:
                found.append((column.rank, name, number))
        if not found:
            return None
        rank, name, step = min(found)
        if self.steps is None or rank < self.steps[0]:
            if self.steps is not None:  # what was read by a worse column is dropped
                self.series, self.parts, self._last = {}, 1, {}
            self.steps = rank, name
        if rank > self.steps[0]:
            return None
        if step > LARGEST_STEP:
            raise UserError(f"{name} is {step:,.0f}, which is no count of optimizer steps but a time")
        return step

    def _turn(self, kind: str, step: float) -> None:
        if step < self._last.get(kind, 0):
            self.parts, self._last = self.parts + 1, {}
        self._last[kind] = step


def as_number(value: Any) -> float | None:
    """A number, or a text that is one, NaN and infinity among them; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
