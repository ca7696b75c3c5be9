"""The parts of a log whose steps go back, put in order: a resume, a step count that began anew, another run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from clm.runs.logs.columns import TRAINING, VALIDATION

Points = tuple[np.ndarray, np.ndarray]  # steps and losses
Part = dict[str, Points]  # by kind, TRAINING and VALIDATION
MOST_PARTS = 50  # more, and the lines are in no order
BEGINNING = 0.02  # of the steps so far: a part that starts before that starts from the beginning


@dataclass(frozen=True)
class Ordered:
    """One curve by kind, and what was done for it, a sentence each."""

    curve: Part
    remarks: list[str]


def ordered(parts: list[Part]) -> Ordered:
    """One curve of a log's parts: where steps are there twice, the later loss counts."""
    if len(parts) > MOST_PARTS:
        return Ordered(_together(parts), ["The steps are in no order, so they were sorted."])
    curve, remarks = _together(parts[:1]), []
    for part in parts[1:]:
        start = min(steps[0] for steps, _ in part.values())
        end = max(steps[-1] for steps, _ in curve.values())
        if start > max(BEGINNING * end, min(steps[0] for steps, _ in curve.values())):
            curve = _together([_before(curve, start), part])
            remarks.append(f"The steps go back from {end:,.0f} to {start:,.0f}: a resume, so the later losses count.")
        elif _goes_on(curve, part):
            curve = _together([curve, {kind: (steps + end, losses) for kind, (steps, losses) in part.items()}])
            remarks.append(
                f"The step count begins anew after {end:,.0f}, and the loss goes on: the steps are counted on from it."
            )
        else:
            curve = _together([part])
            remarks.append(
                f"The steps begin anew after {end:,.0f}, and so does the loss: several runs are in one log, and the "
                "last one is read."
            )
    return Ordered(curve, remarks)


def _goes_on(curve: Part, part: Part) -> bool:
    """Whether a part's first losses are nearer to the curve's last than to its first ones."""
    kind = next((kind for kind in (TRAINING, VALIDATION) if kind in curve and kind in part), None)
    if kind is None:
        return False
    before, first = curve[kind][1], float(np.mean(part[kind][1][:3]))
    return abs(first - np.mean(before[-3:])) < abs(first - np.mean(before[:1]))


def _before(curve: Part, step: float) -> Part:
    kept = {kind: steps < step for kind, (steps, _) in curve.items()}
    return {kind: (steps[kept[kind]], losses[kept[kind]]) for kind, (steps, losses) in curve.items()}


def _together(parts: list[Part]) -> dict[str, Any]:
    """Sorted by step; of a step that is there twice the later loss."""
    joined = {}
    for kind in (TRAINING, VALIDATION):
        rows = [part[kind] for part in parts if kind in part and len(part[kind][0])]
        if rows:
            steps, losses = (np.concatenate(column) for column in zip(*rows, strict=True))
            last = dict(zip(steps.tolist(), range(len(steps)), strict=True))
            places = np.array([last[step] for step in sorted(last)])
            joined[kind] = (steps[places], losses[places])
    return joined
