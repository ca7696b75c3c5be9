"""Loss against the values of one key, as the geometry of a small SVG: points, ticks and the flat region."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from clm.numbers import brief, shown
from clm.sweep.findings import Findings, Flat
from clm.sweep.space import is_log
from clm.sweep.study import repeat_of

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 240, 46, 12, 12, 28
HIGHEST = 6  # times the median's distance from the best: what is above stands at the upper edge


@dataclass(frozen=True)
class Scatter:
    """Places in units of the drawing; `points` are (x, y, class, what it says), ticks (place, label)."""

    key: str
    flat: str
    points: list[tuple[float, float, str, str]]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    region: tuple[float, float] | None
    limit: float


def scatters(found: Findings) -> list[Scatter]:
    """One for each key."""
    known = [trial for trial in found.trials if found.above(trial) is not None and not repeat_of(trial)]
    losses = sorted(trial.user_attrs["loss"] for trial in known)
    low = losses[0]
    high = min(losses[-1], low + HIGHEST * max(found.tolerance, losses[len(losses) // 2] - low))
    high = max(high, low + 2 * found.tolerance)
    room = (high - low) * 0.06
    return [_scatter(found, flat, known, (low - room, high + room)) for flat in found.flat]


def _scatter(found: Findings, flat: Flat, known: Sequence[FrozenTrial], losses: tuple[float, float]) -> Scatter:
    space, (low, high) = found.best.distributions[flat.key], losses

    def up(loss: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - min(loss, high)) / (high - low), 1)

    points = []
    for trial in sorted(known, key=lambda trial: -trial.user_attrs["loss"]):  # the best one on top
        loss, above = trial.user_attrs["loss"], found.above(trial)
        kind = "best" if trial is found.best else "equal" if above <= found.tolerance else "other"
        says = f"trial {trial.number}: {', '.join(f'{k} {brief(v)}' for k, v in trial.params.items())}: loss {loss:.4f}"
        points.append((_across(space, trial.params[flat.key]), up(loss), "beyond" if loss > high else kind, says))
    edges = None if flat.choices else (_across(space, flat.low) - 3, _across(space, flat.high) + 3)
    return Scatter(
        key=flat.key,
        flat=str(flat),
        points=points,
        across=[(_across(space, value), shown(value)) for value in _values(space)],
        up=[(up(value), f"{value:g}") for value in ticks(low, high, 5)],
        region=edges,
        limit=up(found.best.value + found.tolerance),
    )


def _across(space: BaseDistribution, value: Any) -> float:
    if isinstance(space, CategoricalDistribution):
        share = (space.to_internal_repr(value) + 0.5) / len(space.choices)
    elif is_log(space):
        share = math.log(value / space.low) / math.log(space.high / space.low)
    else:
        share = (value - space.low) / (space.high - space.low)
    return round(LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * share, 1)


def _values(space: BaseDistribution) -> list[Any]:
    """Where an axis of these values has its ticks."""
    if isinstance(space, CategoricalDistribution):
        return list(space.choices)
    if not is_log(space):
        return ticks(space.low, space.high, 5)
    powers = range(math.floor(math.log10(space.low)), math.ceil(math.log10(space.high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [float(f"{value:g}") for value in found if space.low * 0.999 <= value <= space.high * 1.001]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from low to high: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [
        float(f"{i * apart:.6g}") for i in range(math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9) + 1)
    ]
