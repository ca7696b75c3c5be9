"""Scores the expected loss of clm/explain on reference runs it wasn't fitted on, in a minute.

    python -m calibration.expected       prints the table and writes calibration/results/expected.json

Each run is left out in turn, with all its points, and expected from the others; runs that share a part of their curves,
or differ in one setting only, are left out together. Then each text is left out with all its runs, and they are
expected as runs on a text that no reference knows. The runs of many epochs are among the others, and are scored in
calibration/repetition.py.

A forecast from one training loss is what the expected loss makes of it. It is scored on the same left-out runs, at
shares of their steps: the loss that the log has there leads to the end, which is the mean of the last ENDS of the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.fit import origin
from clm.explain import references
from clm.explain.expected import Expectation, Model
from clm.explain.forecast import NORMAL_QUANTILE
from clm.explain.outlook import half_interval_of_loss
from clm.explain.situation import Point, Situation
from clm.files import write_json

RESULTS = Path(__file__).parent / "results" / "expected.json"

LARGE = 1e7  # parameters
ONE_LOSS_AT = (0.2, 0.4, 0.6)  # of the steps
ENDS, FEWEST = 3, 10  # training losses that the end is the mean of, and that a log has at least

Row = tuple[Point, Expectation]


@dataclass(frozen=True)
class OneLoss:
    """A forecast from one loss: of a large model or not, made where, its error, and half its interval, in nats."""

    large: bool
    share: float
    error: float
    half: float
    bare_half: float  # before it is widened
    fall: float  # from the loss to the end


def left_out(points: Sequence[Point]) -> tuple[list[Row], list[OneLoss]]:
    """Every point, expected from the runs of other origins; and what one loss of each run lets forecast."""
    rows, forecasts, logs, repeated = [], [], training_logs(), references.repeated_points()
    for name in dict.fromkeys(origin(point.run) for point in points):
        model = Model([*(point for point in points if origin(point.run) != name), *repeated])
        mine = [point for point in points if origin(point.run) == name]
        rows += [(point, model.expect(point.situation, point.step)) for point in mine]
        for point in {point.run: point for point in mine}.values():
            forecasts += from_one_loss(model, point.situation, logs.get(point.run, []))
    return rows, forecasts


def training_logs() -> dict[str, list[tuple[float, float]]]:
    """The training losses of the reference runs, by step."""
    entries = [*references.entries("small_runs.json"), *references.entries("large_runs.json")]
    return {e["name"]: e["validation"] if e.get("loss") == "training" else e["train"] for e in entries}


def from_one_loss(model: Model, situation: Situation, log: Sequence[tuple[float, float]]) -> list[OneLoss]:
    """Forecasts of the end from the last loss before each share of the steps, where the references reach both."""
    if len(log) < FEWEST:
        return []
    end, total = float(np.mean([loss for _, loss in log[-ENDS:]])), situation.law.total_steps
    parameters, made = situation.non_embedding_parameters, []
    for share in ONE_LOSS_AT:
        shown = max((tuple(pair) for pair in log if pair[0] <= share * total), default=(0, 0.0))
        if shown[0] < 0.5 * share * total or not model.expect(situation, shown[0], of_training=True).covered:
            continue
        then = model.expect_after(situation, shown, total, of_training=True)
        if then.covered:
            half = half_interval_of_loss(parameters, then.sd)
            bare, large = NORMAL_QUANTILE * then.sd, parameters > LARGE
            made.append(OneLoss(large, share, then.loss - end, float(half), bare, shown[1] - end))
    return made


def score_one_loss(forecasts: Sequence[OneLoss]) -> dict:
    """Errors in nats, and how many ends lie in the interval, before and after it is widened."""
    errors = np.array([abs(each.error) for each in forecasts])
    return {
        "runs": len(forecasts),
        "median_error": float(np.median(errors)),
        "last_value_median_error": float(np.median([abs(each.fall) for each in forecasts])),
        "median_half_interval": float(np.median([each.half for each in forecasts])),
        "coverage": float(np.mean(errors <= [each.half for each in forecasts])),
        "coverage_before_widening": float(np.mean(errors <= [each.bare_half for each in forecasts])),
    }


def text_left_out(points: Sequence[Point]) -> list[Row]:
    """Every point, expected from the runs on other texts."""
    rows, known = [], [*points, *references.repeated_points()]
    for text in dict.fromkeys(point.situation.text for point in points):
        model = Model([point for point in known if point.situation.text != text])
        mine = [point for point in points if point.situation.text == text]
        rows += [(point, model.expect(replace(point.situation, text=None), point.step)) for point in mine]
    return rows


def score(rows: Sequence[Row]) -> dict:
    """How many of the points lie in their bands, and how far they are off."""
    inside = [expected.band[0] <= point.loss <= expected.band[1] for point, expected in rows]
    return {
        "runs": len({point.run for point, _ in rows}),
        "points": len(rows),
        "inside_80_band": float(np.mean(inside)),
        "median_error": float(np.median([abs(point.loss - expected.loss) for point, expected in rows])),
        "median_half_band": float(np.median([(expected.band[1] - expected.band[0]) / 2 for _, expected in rows])),
        "not_covered": sum(not expected.covered for _, expected in rows),
    }


def main() -> None:
    points = references.points()
    (rows, forecasts), unknown = left_out(points), text_left_out(points)
    for run in dict.fromkeys(point.run for point in points):
        mine = [row for row in rows if row[0].run == run]
        point, expected = mine[-1]
        low, high = expected.band
        scored = score(mine)
        print(
            f"{run:<36} step {point.step:>6,.0f}: {point.loss:.3f}, expected {expected.loss:.3f} ({low:.2f} to "
            f"{high:.2f}); inside {round(scored['inside_80_band'] * len(mine))} of {len(mine)}"
        )

    def large(row: Row) -> bool:
        return row[0].situation.non_embedding_parameters > LARGE

    result = {
        "all": score(rows),
        "small": score([row for row in rows if not large(row)]),
        "published": score([row for row in rows if large(row)]),
        "124M on web text": score(
            [row for row in rows if large(row) and row[0].run.startswith("gpt") and "1.5b" not in row[0].run]
        ),
        "small, text unknown": score([row for row in unknown if not large(row)]),
        "published, text unknown": score([row for row in unknown if large(row)]),
    }
    for name, each in result.items():
        print(
            f"{name}: {each['points']} points of {each['runs']} runs: {each['inside_80_band']:.0%} inside the 80 % "
            f"band (±{each['median_half_band']:.2f}), median error {each['median_error']:.3f} nats"
        )
    for size, is_large in (("small", False), ("published", True)):
        for share in ONE_LOSS_AT:
            scored = score_one_loss([each for each in forecasts if each.large == is_large and each.share == share])
            result[f"{size}, from one loss at {share:.0%}"] = scored
            print(
                f"{size}, from one training loss at {share:.0%}: {scored['runs']} runs: median error "
                f"{scored['median_error']:.3f} nats, as it was {scored['last_value_median_error']:.3f}; the interval "
                f"(±{scored['median_half_interval']:.2f}) holds {scored['coverage']:.0%}, before it was widened "
                f"{scored['coverage_before_widening']:.0%}"
            )
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
