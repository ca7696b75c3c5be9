"""Steps of the Trainer's printed dicts, which have none: by their number, and the progress bars between them."""

import math
import statistics
from array import array
from itertools import pairwise
from typing import Any

from clm.runs.logs.collect import as_number

FEWEST = 3  # progress bars that tell how many steps lie between two dicts
MOST = 2000


class Nth:
    """Counts the training losses; `spacing` and `offset` make steps of the counts."""

    def __init__(self, logging_steps: int | None) -> None:
        self._given, self._count, self._epoch = logging_steps, 0.0, None
        self._bars: array = array("d")  # where the bar stood at a training loss
        self._counts: array = array("d")
        self._bar: tuple[int, int] | None = None
        self.total: int | None = None  # steps of the run, by the progress bars

    def bar(self, count: int, total: int) -> None:
        """A progress bar at `count` of `total`."""
        self._bar = count, total

    def of(self, training: bool, epoch: Any) -> float:
        """The number of a dict: of a training loss one more, of another the one before; less where epochs go back."""
        epoch = as_number(epoch)
        epoch = epoch if epoch is not None and 0 <= epoch < math.inf else None
        if epoch is not None and self._epoch and epoch < self._epoch:
            self._count = float(round(self._count * epoch / self._epoch)) - training
        self._epoch = epoch if epoch is not None else self._epoch
        if training:
            self._count += 1
            if self._bar is not None and len(self._bars) < MOST:
                self._bars.append(self._bar[0])
                self._counts.append(self._count)
                self.total = self._bar[1]
        return self._count

    @property
    def spacing(self) -> int | None:
        """Steps between two training losses; None where nothing tells."""
        if self._given:
            return self._given
        bars = list(self._bars)
        gaps = [later - earlier for earlier, later in pairwise(bars) if later > earlier]
        return max(1, round(statistics.median(gaps))) if len(gaps) >= FEWEST else None

    @property
    def offset(self) -> int:
        """Steps before the first count, of a run that was resumed; by the progress bars."""
        if not self.spacing or len(self._bars) < FEWEST:
            return 0
        pairs = zip(self._bars, self._counts, strict=True)
        before = statistics.median(bar - count * self.spacing for bar, count in pairs)
        return max(0, round(before / self.spacing)) * self.spacing
