"""Scores the forecasts of clm/explain on the runs whose curves are in the repository, in two minutes of one core.

    python -m calibration.forecast           prints the table and writes calibration/results/forecast.json
    python -m calibration.forecast --fit     also fits the constants that are shipped, to all runs but the frozen ones

Every run is forecast with constants fitted to the others (leave-one-run-out); runs that share a part of their curves,
or differ in one setting only, are left out together. The large runs are forecast once more without anything of their
source (leave-one-source-out): so it does on a kind of run that it has never seen. Runs made after the code was frozen
are forecast with the shipped constants, and reported apart.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.fit import FLOORS, SHARES, Reference, fit, left_out, outcome, runs_at_hand, width
from calibration.runs import CURVES
from calibration.table import FROZEN
from clm.explain.forecast import NORMAL_QUANTILE, Knowledge
from clm.explain.forecast.posterior import SKIPPED_SHARE
from clm.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "forecast.json"
SHIPPED = CURVES.parent / "forecast_constants.json"
GROUPS = ("small", "25M to 400M", "124M to 1.5B")
NAIVE = ("last_value", "power_law", "usual_fall")


def last_value(run: Reference, share: float) -> float:
    """The naive forecast: it stays as it is."""
    return float(run.until(share).losses[-1])


def power_law(run: Reference, share: float) -> float:
    """Another: L0 + A t^-alpha in steps, least squares over the validation losses, whatever the schedule."""
    curve, total = run.until(share), run.law.total_steps
    keep = curve.steps >= SKIPPED_SHARE * total
    best = (np.inf, np.nan)
    for alpha in np.arange(0.05, 1.5, 0.05):
        terms = np.stack((np.ones(keep.sum()), curve.steps[keep] ** -alpha), axis=1)
        fitted, *_ = np.linalg.lstsq(terms, curve.losses[keep], rcond=None)
        misfit = float(((terms @ fitted - curve.losses[keep]) ** 2).sum())
        best = min(best, (misfit, float(fitted[0] + fitted[1] * total**-alpha)))
    return best[1]


def usual_fall(run: Reference, share: float, runs: Sequence[Reference]) -> float:
    """A third: the last value less the median fall from there that the other runs of this group showed."""
    falls = [
        last_value(each, share) - each.final for each in runs if each.group == run.group and each.origin != run.origin
    ]
    return last_value(run, share) - float(np.median(falls))


def naive_errors(run: Reference, runs: Sequence[Reference]) -> np.ndarray:
    """(shares, NAIVE)"""
    guesses = [(last_value(run, share), power_law(run, share), usual_fall(run, share, runs)) for share in SHARES]
    return np.array(guesses) - run.final


def wilson(hits: int, count: int, quantile: float = 1.645) -> tuple[float, float]:
    """The 90 % interval of a share of `count` draws: Wilson 1927."""
    if not count:
        return 0.0, 1.0
    share, spread = hits / count, quantile**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return middle - half, middle + half


def score(outcomes: np.ndarray, naive: np.ndarray) -> list[dict]:
    """At each share: errors, and how many ends the intervals hold. `outcomes` (runs, shares, 2), `naive` (runs, shares,
    NAIVE) errors.
    """
    rows = []
    for i, share in enumerate(SHARES):
        said = ~np.isnan(outcomes[:, i, 0])
        errors, halves = outcomes[said, i, 0], NORMAL_QUANTILE * outcomes[said, i, 1]
        hits, count = int((np.abs(errors) <= halves).sum()), int(said.sum())
        low, high = wilson(hits, count)
        rows.append({
            "share_of_steps": share,
            "runs": count,
            "cannot_say": int((~said).sum()),
            "median_error": float(np.median(np.abs(errors))),
            "mean_error": float(np.abs(errors).mean()),
            "bias": float(errors.mean()),
            "too_low": int((errors < 0).sum()),
            "median_half_interval": float(np.median(halves)),
            "coverage": hits / count,
            "coverage_low": low,
            "coverage_high": high,
            **{f"{name}_median_error": float(np.median(np.abs(naive[:, i, j]))) for j, name in enumerate(NAIVE)},
        })  # fmt: skip
    return rows


def widened(outcomes: np.ndarray, runs: Sequence[Reference]) -> np.ndarray:
    """Outcomes with standard deviations scaled, for each run by what the others of its size need."""
    made = outcomes.copy()
    for i, run in enumerate(runs):
        others = [j for j, other in enumerate(runs) if other.large == run.large and other.origin != run.origin]
        floor = FLOORS["large" if run.large else "small"]
        made[i, :, 1] = np.sqrt((width(outcomes[others], floor) * outcomes[i, :, 1]) ** 2 + floor**2)
    return made


def show(title: str, runs: Sequence[Reference], outcomes: np.ndarray, rows: list[dict], each: bool = True) -> None:
    print(f"\n{title}: {len(runs)} runs\n")
    if each:
        shares = "".join(f"{f'at {share:.0%}':>18}" for share in SHARES)
        print(f"{'run':<36}{'final':>8}{shares}")
        for run, errors in zip(runs, outcomes, strict=True):
            print(f"{run.name:<36}{run.final:>8.3f}{''.join(_cell(*row).rjust(18) for row in errors)}")
    for row in rows:
        print(
            f"at {row['share_of_steps']:.0%} of the steps: median error {row['median_error']:.3f} nats (last value "
            f"{row['last_value_median_error']:.3f}, power law {row['power_law_median_error']:.3f}, usual fall "
            f"{row['usual_fall_median_error']:.3f}), bias {row['bias']:+.3f}, interval ±{row['median_half_interval']:.3f} "
            f"holds {row['coverage']:.0%} ({row['coverage_low']:.0%} to {row['coverage_high']:.0%}), cannot say: "
            f"{row['cannot_say']}"
        )


def _cell(error: float, sd: float) -> str:
    if np.isnan(error):
        return "cannot say"
    half = NORMAL_QUANTILE * sd
    return f"{error:+.3f} ±{half:.3f}{' ' if abs(error) <= half else '!'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="write the constants that are shipped")
    refit = parser.parse_args().fit
    every = runs_at_hand()
    runs = [run for run in every if run.name not in FROZEN]
    known = fit(runs)
    by_run = left_out(runs, lambda run: run.origin, known)
    large = [i for i, run in enumerate(runs) if run.large]
    by_source = left_out(runs, lambda run: run.source if run.large else "", keep=large)
    if refit:
        widths = {
            "small": (width(by_run[[i for i in range(len(runs)) if i not in large]], FLOORS["small"]), FLOORS["small"]),
            "large": (width(by_source, FLOORS["large"]), FLOORS["large"]),
        }
        known = replace(known, widths=widths)
        write_json(SHIPPED, known.kept())
    ships = Knowledge.of(read_json(SHIPPED))
    naive = np.array([naive_errors(run, runs) for run in runs])
    result = {}

    def report(name: str, chosen: Sequence[int], outcomes: np.ndarray, each: bool = True) -> None:
        mine = [runs[i] for i in chosen]
        rows = score(outcomes, naive[list(chosen)])
        result[name] = {
            "at": rows,
            "errors": {run.name: errors[:, 0].tolist() for run, errors in zip(mine, outcomes, strict=True)},
        }
        show(name, mine, outcomes, rows, each)

    scaled = widened(by_run, runs)
    for group in GROUPS:
        chosen = [i for i, run in enumerate(runs) if run.group == group]
        report(group, chosen, scaled[chosen])
    for family in ("adamw", "muon"):
        chosen = [i for i, run in enumerate(runs) if run.group == "small" and run.facts.family == family]
        report(f"small, by {family}", chosen, scaled[chosen], each=False)
    scaled = widened(by_source, [runs[i] for i in large])
    for group in GROUPS[1:]:
        chosen = [i for i in large if runs[i].group == group]
        report(f"{group}, source left out", chosen, scaled[[large.index(i) for i in chosen]])
    after = [run for run in every if run.name in FROZEN]
    if after:
        outcomes = np.array([outcome(run, ships) for run in after])
        rows = score(outcomes, np.array([naive_errors(run, [*runs, run]) for run in after]))
        result["after the freeze"] = {
            "at": rows,
            "errors": {run.name: errors[:, 0].tolist() for run, errors in zip(after, outcomes, strict=True)},
        }
        show("after the freeze", after, outcomes, rows)
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
