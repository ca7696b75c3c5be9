"""A run's log as lines of charts. A point has its step, tokens and seconds; a line has as many as a page can show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from clm.numbers import number
from clm.runs.record import RunRecord

MOST_POINTS = 1000  # of one line: more than a screen has columns
PANELS = (  # key of the log, title, unit
    ("learning_rate", "Learning rate", ""),
    ("grad_norm", "Gradient norm", "before clipping"),
    ("tokens_per_second", "Speed", "tokens per second"),
    ("mfu", "Model FLOPs utilisation", "share of the device's peak"),
    ("memory_gb", "Peak memory", "GB"),
)


@dataclass(frozen=True)
class Line:
    """One line of a chart. Its points are rows of (step, tokens or None, seconds or None, value).

    A band's rows have two values, low and high. `shape` is "line", "dots" (a line with its points), "dashes" or
    "band"; `role` says what is drawn ("training", "validation", "expected", "forecast", "past" or "other"), and `run`
    the place of its run on the page: both choose its colour.
    """

    name: str
    role: str
    run: int
    shape: str
    points: list[list[float | None]]


@dataclass(frozen=True)
class Chart:
    """Lines that share their axes."""

    key: str
    title: str
    unit: str
    lines: list[Line] = field(default_factory=list)


class Axes:
    """Where a step of a run lies on the three x axes."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._tokens = _known(run, ("train_tokens", "num_input_tokens_seen"))
        self._seconds = _known(run, ("elapsed_seconds",))

    def place(self, step: int) -> list[float | None]:
        """(step, tokens, seconds); what a log doesn't hold is worked out from the recipe or is None."""
        tokens = _between(self._tokens, step) if self._tokens else self._run.tokens_at(step)
        return [step, tokens, _between(self._seconds, step)]

    def points(self, rows: Sequence[Sequence[Any]], values: int) -> list[list[float | None]]:
        """Rows of (step, value ...) from elsewhere as points; rows that aren't numbers are left out."""
        good = [row for row in rows if len(row) > values and all(number(cell) is not None for cell in row)]
        return [[*self.place(row[0]), *row[1 : values + 1]] for row in good]


def loss_chart(runs: Sequence[RunRecord], names: Sequence[str], explanation: dict[str, Any] | None = None) -> Chart:
    """Training and validation loss of the runs; for a single one the expected band and forecasts, too."""
    chart = Chart("loss", "Loss", "nats per token")
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        prefix = f"{name}: " if len(runs) > 1 else ""
        axes = Axes(run)
        _add(chart, Line(f"{prefix}training", "training", place, "line", _logged(run, "loss", axes)))
        _add(chart, Line(f"{prefix}validation", "validation", place, "dots", _logged(run, "eval_loss", axes)))
        if len(runs) == 1 and explanation:
            made = explanation.get("forecast") or {}
            forecast = [] if made.get("by") == "measured" else made.get("curve") or []
            _add(chart, Line("expected", "expected", place, "band", axes.points(explanation.get("band") or [], 2)))
            _add(chart, Line("forecast", "forecast", place, "dashes", axes.points(forecast, 1)))
            low_and_high = [[row[0], *row[2:4]] for row in forecast if len(row) >= 4]
            _add(chart, Line("forecast's interval", "forecast", place, "band", axes.points(low_and_high, 2)))
            for line in _past_forecasts(explanation, place, axes):
                _add(chart, line)
    return chart


def _past_forecasts(explanation: dict[str, Any], place: int, axes: Axes) -> list[Line]:
    """Where the run was forecast to end, each time at the step at which that was said."""
    said = [(each["step"], each["forecast"]) for each in explanation.get("history") or [] if each["forecast"]]
    ends = [[step, made["loss"], made["low"], made["high"]] for step, made in said]
    bounds = [[step, low, high] for step, _, low, high in ends]
    name = "end as forecast then"
    return [
        Line(name, "past", place, "dots", axes.points(ends, 1)),
        Line(f"{name}, interval", "past", place, "band", axes.points(bounds, 2)),
    ]


def validation_chart(runs: Sequence[RunRecord], names: Sequence[str]) -> Chart:
    """Validation loss of the runs alone, where there are many."""
    chart = Chart("loss", "Validation loss", "nats per token")
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        _add(chart, Line(name, "validation", place, "dots", _logged(run, "eval_loss", Axes(run))))
    return chart


def panels(runs: Sequence[RunRecord], names: Sequence[str]) -> list[Chart]:
    """A chart for everything else that was logged."""
    charts = []
    for key, title, unit in PANELS:
        chart = Chart(key, title, unit)
        for place, (run, name) in enumerate(zip(runs, names, strict=True)):
            label = name if len(runs) > 1 else title.lower()
            _add(chart, Line(label, "other", place, "line", _logged(run, key, Axes(run))))
        if chart.lines:
            charts.append(chart)
    return charts


def _add(chart: Chart, line: Line) -> None:
    if line.points:
        chart.lines.append(line)


def _logged(run: RunRecord, key: str, axes: Axes) -> list[list[float | None]]:
    values = [(entry["step"], number(entry.get(key))) for entry in run.log]
    found = [(step, value) for step, value in values if value is not None]
    return [[*axes.place(step), value] for step, value in thinned(found, lambda point: point[1])]


def thinned(points: list[Any], value: Callable[[Any], float], most: int = MOST_POINTS) -> list[Any]:
    """At most `most` of the points, in their order: the lowest and the highest of each stretch, so spikes stay."""
    if len(points) <= most:
        return points
    edges = np.linspace(0, len(points), most // 2 + 1).astype(int)
    kept = set()
    for start, stop in pairwise(edges):
        stretch = range(start, stop)
        kept |= {min(stretch, key=lambda i: value(points[i])), max(stretch, key=lambda i: value(points[i]))}
    return [points[i] for i in sorted(kept)]


def _known(run: RunRecord, keys: Sequence[str]) -> list[tuple[float, float]]:
    """(step, value) of the first of `keys` that is logged with growing values, in the order of steps."""
    for key in keys:
        logged = ((entry["step"], number(entry.get(key))) for entry in run.log)
        found = {step: value for step, value in logged if value is not None and step > 0}
        if found and max(found.values()) > 0:
            return sorted(found.items())
    return []


def _between(known: list[tuple[float, float]], step: float) -> float | None:
    """The value at `step` by straight lines between the known ones and from (0, 0); beyond them at the mean pace."""
    if not known:
        return None
    steps, values = zip((0, 0), *known, strict=True)
    if step > steps[-1]:
        return values[-1] * step / steps[-1]
    return float(np.interp(step, steps, values))
