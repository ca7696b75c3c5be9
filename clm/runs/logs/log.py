"""What a Collector holds, made into one curve in nats a token, and what was done for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from clm.errors import UserError
from clm.runs.curve import Curve
from clm.runs.logs import units
from clm.runs.logs.collect import Collector
from clm.runs.logs.columns import LOSSES, NTH, PERPLEXITY, TRAINING, VALIDATION, classify, is_time
from clm.runs.logs.nth import Nth
from clm.runs.logs.order import ordered
from clm.runs.logs.series import Series

FEWEST_TRAILING = 5  # losses in a row that aren't finite, at the end: the run is lost
MOST_SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Known:
    """What the reader is told beside the log; None where it isn't known.

    `bytes_per_token` is a guess, for a log in bits per byte that nothing else tells it of.
    """

    vocab_size: int | None = None
    logging_steps: int | None = None
    bytes_per_token: float | None = None


@dataclass(frozen=True)
class Log:
    """A log as a curve in nats a token, and what was read, matched and converted, a sentence each.

    `total_steps` where the log says them; `lost_at` the first step of losses that stay infinite or NaN; `assumed`
    whether a unit was converted by a guess; `own_units` the units that were converted, by kind.
    """

    name: str
    curve: Curve
    remarks: list[str]
    total_steps: int | None = None
    lost_at: float | None = None
    assumed: bool = False
    own_units: Mapping[str, units.Unit] = field(default_factory=dict)


def of(name: str, what: str, into: Collector, known: Known, nth: Nth | None = None) -> Log:
    """The log `name`, which is `what`.

    Raises:
        UserError: there are no losses or no steps in it, or it is several runs side by side.
    """
    if len(into.runs) > 1:
        raise UserError(f"several runs side by side ({_shown(into.runs)}): leave one of them in")
    chosen = {kind: column for kind in LOSSES if (column := _best(into, kind))}
    if not chosen:
        raise UserError(_why_nothing(into))
    series = {kind: into.series[column] for kind, column in chosen.items()}
    apart = {kind: each.parts() for kind, each in series.items()}
    parts = [{kind: points[i] for kind, points in apart.items() if i in points} for i in range(into.parts)]
    put = ordered([part for part in parts if part])
    curve, counted = _by_steps(put.curve, into, nth)
    converted = units.in_nats(
        curve,
        {kind: classify(column).unit for kind, column in chosen.items()},
        {kind: beside for kind in chosen if (beside := _perplexities(into, kind))},
        known.vocab_size,
        known.bytes_per_token,
    )
    nothing = (np.array([]), np.array([]))
    made = Curve(*converted.curve.get(TRAINING, nothing), *converted.curve.get(VALIDATION, nothing))
    return Log(
        name=name,
        curve=made,
        remarks=[_matched(what, chosen, into), *counted, *put.remarks, *_left_out(series), *converted.remarks],
        total_steps=into.total_steps if (into.total_steps or 0) >= made.last_step else None,
        lost_at=next((each.trailing[0] for each in series.values() if len(each.trailing) >= FEWEST_TRAILING), None),
        assumed=converted.assumed,
        own_units=converted.units,
    )


def _best(into: Collector, kind: str) -> str | None:
    """The column of a kind of loss: the one with the best name, and of those the one with the most losses."""
    named = [
        (column.rank, -series.points, name)
        for name, series in into.series.items()
        if (column := classify(name)) and column.kind == kind and series.points
    ]
    if not named:
        return None
    rank, _, best = min(named)
    runs = {classify(name).run for other, _, name in named if other == rank}
    if len(runs) > 1:
        raise UserError(f"several runs side by side ({_shown(sorted(runs))}): leave one of them in")
    return best


def _by_steps(curve: Mapping[str, units.Points], into: Collector, nth: Nth | None) -> tuple[dict, list[str]]:
    """The curve at optimizer steps; UserError where what the log has is none."""
    fractional = sum(series.fractional for series in into.series.values())
    if fractional > 0.1 * sum(series.points for series in into.series.values()):
        raise UserError(f"{into.steps[1]!r} isn't optimizer steps: most of its values are no whole numbers")
    if into.steps[1] != NTH:
        return dict(curve), []
    spacing = nth.spacing if nth else None
    if not spacing:
        raise UserError("its losses come without steps: say how many steps lie between them, --logging_steps N")
    said = f"The losses have no steps: the training losses are taken to be {spacing:,} steps apart (logging_steps)."
    return {kind: (steps * spacing + nth.offset, losses) for kind, (steps, losses) in curve.items()}, [said]


def _perplexities(into: Collector, kind: str) -> units.Points | None:
    """Perplexities that were logged beside a loss of this kind."""
    for name, series in into.series.items():
        column = classify(name)
        if column.kind == kind and column.unit == PERPLEXITY and series.points:
            parts = series.parts()
            return parts[max(parts)]
    return None


def _matched(what: str, chosen: Mapping[str, str], into: Collector) -> str:
    read = [f"{kind} loss from {column!r}" for kind, column in chosen.items()]
    steps = "" if into.steps[1] == NTH else f", steps from {into.steps[1]!r}"
    others = [name for name in (*into.series, *into.others) if name not in chosen.values() and name != into.steps[1]]
    ignored = f"; not read: {_shown(others)}" if others else ""
    return f"Read as {what}: {' and '.join(read)}{steps}{ignored}."


def _left_out(series: Mapping[str, Series]) -> list[str]:
    said = [
        f"{kind.capitalize()} losses that aren't finite numbers, and so are left out: {each.not_finite:,}."
        for kind, each in series.items()
        if each.not_finite
    ]
    averaged = max(each.stride for each in series.values())
    return said + ([f"There are so many losses that {averaged} neighbours are averaged."] if averaged > 1 else [])


def _why_nothing(into: Collector) -> str:
    lost = [name for name, series in into.series.items() if series.not_finite]
    if lost:
        return f"no loss in it is a finite number ({_shown(lost)})"
    if into.too_large:
        name, step = next(iter(into.too_large.items()))
        raise UserError(f"{name} is {step:,.6g}, which is no count of optimizer steps but a time")
    names = [*into.without_steps, *into.others]
    if not into.without_steps:
        return "no losses in it" + (f": its columns are {_shown(names)}" if names else " in any form that is known")
    times = [name for name in names if is_time(name)]
    advice = f"; {times[0]!r} is a time: write the step beside it" if times else ""
    return f"it has no optimizer steps: none of its columns is a step or iteration ({_shown(names)}){advice}"


def _shown(names: Iterable[str]) -> str:
    names = [repr(name[:80]) for name in names]
    return ", ".join(names[:MOST_SHOWN]) + (", …" if len(names) > MOST_SHOWN else "")
