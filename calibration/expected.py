"""Scores the expected loss of clm/explain on reference runs it wasn't fitted on, in seconds.

    python -m calibration.expected       prints the table and writes calibration/results/expected.json

Each run is left out in turn, with all its points, and expected from the others.
"""

from pathlib import Path

import numpy as np

from clm.explain.expected import Model
from clm.explain.references import points as reference_points
from clm.files import write_json

RESULTS = Path(__file__).parent / "results" / "expected.json"


def main() -> None:
    points = reference_points()
    runs = dict.fromkeys(point.run for point in points)
    rows = []
    for run in runs:
        model = Model([point for point in points if point.run != run])
        for point in (point for point in points if point.run == run):
            expectation = model.expect(point.situation, point.step)
            low, high = expectation.band
            rows.append((run, point.step, point.loss, expectation.loss, low, high, expectation.covered))
    for run in runs:
        of_run = [row for row in rows if row[0] == run]
        errors = np.array([row[2] - row[3] for row in of_run])
        inside = sum(row[4] <= row[2] <= row[5] for row in of_run)
        step, loss, expected, low, high = of_run[-1][1:6]
        print(
            f"{run:<28} step {step:>6,.0f}: {loss:.3f}, expected {expected:.3f} ({low:.2f} to {high:.2f}); inside "
            f"{inside} of {len(of_run)}, mean error {errors.mean():+.3f}"
        )
    result = {}
    published = {point.run for point in points if point.situation.non_embedding_parameters > 1e7}
    for name, chosen in (("all", set(runs)), ("published", published), ("small", set(runs) - published)):
        mine = [row for row in rows if row[0] in chosen]
        inside = np.mean([row[4] <= row[2] <= row[5] for row in mine])
        error = np.median([abs(row[2] - row[3]) for row in mine])
        result[name] = {
            "runs": len(chosen), "points": len(mine), "inside_80_band": float(inside), "median_error": float(error),
            "median_half_band": float(np.median([(row[5] - row[4]) / 2 for row in mine])),
            "not_covered": sum(not row[6] for row in mine),
        }  # fmt: skip
        print(
            f"{name}: {len(mine)} points of {len(chosen)} runs: {inside:.0%} inside the 80 % band "
            f"(±{result[name]['median_half_band']:.2f}), median error {error:.3f} nats"
        )
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
