"""Scores the expected loss of clm/explain on reference runs it wasn't fitted on, in a minute.

    python -m calibration.expected       prints the table and writes calibration/results/expected.json

Each run is left out in turn, with all its points, and expected from the others; runs that share a part of their curves,
or differ in one setting only, are left out together. Then each text is left out with all its runs, and they are
expected as runs on a text that no reference knows.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.fit import origin
from clm.explain.expected import Expectation, Model, Point
from clm.explain.references import points as reference_points
from clm.files import write_json

RESULTS = Path(__file__).parent / "results" / "expected.json"

Row = tuple[Point, Expectation]


def left_out(points: Sequence[Point]) -> list[Row]:
    """Every point, expected from the runs of other origins."""
    rows = []
    for name in dict.fromkeys(origin(point.run) for point in points):
        model = Model([point for point in points if origin(point.run) != name])
        mine = [point for point in points if origin(point.run) == name]
        rows += [(point, model.expect(point.situation, point.step)) for point in mine]
    return rows


def text_left_out(points: Sequence[Point]) -> list[Row]:
    """Every point, expected from the runs on other texts."""
    rows = []
    for text in dict.fromkeys(point.situation.text for point in points):
        model = Model([point for point in points if point.situation.text != text])
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
    points = reference_points()
    rows, unknown = left_out(points), text_left_out(points)
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
        return row[0].situation.non_embedding_parameters > 1e7

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
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
