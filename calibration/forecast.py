"""Scores the forecasts of clm/explain on the runs whose curves are in the repository, in two minutes of one core.

    python -m calibration.forecast           prints the table and writes calibration/results/forecast.json
    python -m calibration.forecast --fit     also fits the constants that are shipped, to all runs that aren't held out

Every run is forecast with constants fitted to the others (leave-one-run-out); runs that share a part of their curves,
or differ in one setting only, are left out together. The large runs are forecast once more without anything of their
source (leave-one-source-out), the small ones without any run on their text. The runs that are held out of every
fit are forecast with the shipped constants, and reported apart.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.fit import (
    FLOORS,
    SHARES,
    Reference,
    by_training_alone,
    fit,
    fits_without,
    outcome,
    runs_at_hand,
    runs_held_out,
    sparsely_logged,
    width,
)
from calibration.runs import CURVES
from calibration.table import HELD_OUT_FIRST, HELD_OUT_SECOND
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


def score(outcomes: np.ndarray, naive: np.ndarray | None) -> list[dict]:
    """At each share: errors, and how many ends the intervals hold.

    Args:
        outcomes: (runs, shares, 2) errors and standard deviations.
        naive: (runs, shares, NAIVE) errors; None where they aren't asked for.
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
        })  # fmt: skip
        if naive is not None:
            medians = np.median(np.abs(naive[:, i]), axis=0)
            rows[-1] |= {f"{name}_median_error": float(median) for name, median in zip(NAIVE, medians, strict=True)}
    return rows


def widened(outcomes: np.ndarray, runs: Sequence[Reference]) -> np.ndarray:
    """Outcomes with standard deviations scaled, for each run by what the others of its size need."""
    made = outcomes.copy()
    for i, run in enumerate(runs):
        others = [j for j, other in enumerate(runs) if other.large == run.large and other.origin != run.origin]
        floor = FLOORS["large" if run.large else "small"]
        made[i, :, 1] = np.sqrt((width(outcomes[others], floor) * outcomes[i, :, 1]) ** 2 + floor**2)
    return made


def errors_of(runs: Sequence[Reference], outcomes: np.ndarray) -> dict[str, list[float]]:
    """Each run's errors at the shares."""
    rounded = np.round(outcomes[:, :, 0], 4).tolist()
    return {run.name: errors for run, errors in zip(runs, rounded, strict=True)}


def show(title: str, runs: Sequence[Reference], outcomes: np.ndarray, rows: list[dict], each: bool = True) -> None:
    print(f"\n{title}: {len(runs)} runs\n")
    if each:
        shares = "".join(f"{f'at {share:.0%}':>18}" for share in SHARES)
        print(f"{'run':<36}{'final':>8}{shares}")
        for run, errors in zip(runs, outcomes, strict=True):
            print(f"{run.name:<36}{run.final:>8.3f}{''.join(_cell(*row).rjust(18) for row in errors)}")
    for row in rows:
        keys = {name: f"{name}_median_error" for name in NAIVE if f"{name}_median_error" in row}
        naive = ", ".join(f"{name.replace('_', ' ')} {row[key]:.3f}" for name, key in keys.items())
        held = f"holds {row['coverage']:.0%} ({row['coverage_low']:.0%} to {row['coverage_high']:.0%})"
        error = f"median error {row['median_error']:.3f} nats ({naive or 'alone'}), bias {row['bias']:+.3f}"
        interval = f"interval ±{row['median_half_interval']:.3f} {held}"
        print(f"at {row['share_of_steps']:.0%} of the steps: {error}, {interval}, cannot say: {row['cannot_say']}")


def _cell(error: float, sd: float) -> str:
    if np.isnan(error):
        return "cannot say"
    half = NORMAL_QUANTILE * sd
    return f"{error:+.3f} ±{half:.3f}{' ' if abs(error) <= half else '!'}"


def outcomes_of(runs: Sequence[Reference], fits: Sequence[Knowledge]) -> np.ndarray:
    """(runs, shares, 2): of each run with what was fitted for it."""
    return np.array([outcome(run, known) for run, known in zip(runs, fits, strict=True)])


def shipped(known: Knowledge, small: np.ndarray, large: np.ndarray) -> Knowledge:
    """With the widths that these outcomes need: of small runs left out, and of large ones without their source."""
    floors = (FLOORS["small"], FLOORS["large"])
    widths = ((width(each, floor), floor) for each, floor in zip((small, large), floors, strict=True))
    return replace(known, widths=dict(zip(("small", "large"), widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="write the constants that are shipped")
    refit = parser.parse_args().fit
    runs = runs_at_hand()
    large = [run for run in runs if run.large]
    known = fit(runs)
    fits = fits_without(runs, runs, lambda run: run.origin, known)
    by_run = outcomes_of(runs, fits)
    by_source = outcomes_of(large, fits_without(large, runs, lambda run: run.source))
    if refit:
        of_small = by_run[[not run.large for run in runs]]
        write_json(SHIPPED, shipped(known, of_small, by_source).kept())
    result: dict[str, dict] = {}

    def report(name: str, mine: Sequence[Reference], outcomes: np.ndarray, each: bool = True) -> None:
        naive = np.array([naive_errors(run, runs) for run in mine]) if len(mine[0].curve.losses) else None
        rows = score(outcomes, naive)
        result[name] = {"at": rows, "errors": errors_of(mine, outcomes)}
        show(name, mine, outcomes, rows, each)

    def report_where(name: str, chosen: Callable[[Reference], bool], each: bool = True) -> None:
        picked = [i for i, run in enumerate(runs) if chosen(run)]
        report(name, [runs[i] for i in picked], scaled[picked], each)

    scaled = widened(by_run, runs)
    for group in GROUPS:
        report_where(group, lambda run, group=group: run.group == group)
    for family in ("adamw", "muon"):
        wanted = ("small", family)
        report_where(f"small, by {family}", lambda run, wanted=wanted: (run.group, run.facts.family) == wanted, False)
    scaled_large = widened(by_source, large)
    for group in GROUPS[1:]:
        picked = [i for i, run in enumerate(large) if run.group == group]
        report(f"{group}, source left out", [large[i] for i in picked], scaled_large[picked])
    strange = [replace(run, facts=replace(run.facts, text=None)) for run in runs if not run.large]
    by_text = fits_without([run for run in runs if not run.large], runs, lambda run: run.facts.text or run.origin)
    report("small, text left out", strange, widened(outcomes_of(strange, by_text), strange), each=False)
    trained = [i for i, run in enumerate(runs) if len(run.curve.train_losses)]
    alone = [by_training_alone(runs[i]) for i in trained]
    outcomes = widened(outcomes_of(alone, [fits[i] for i in trained]), alone)
    for group in (GROUPS[0], GROUPS[2]):
        picked = [i for i, run in enumerate(alone) if run.group == group]
        report(f"{group}, training losses alone", [alone[i] for i in picked], outcomes[picked], each=False)
    small = [i for i, run in enumerate(runs) if not run.large]
    sparse = [sparsely_logged(runs[i]) for i in small]
    outcomes = widened(outcomes_of(sparse, [fits[i] for i in small]), sparse)
    report("small, logged as the quickstart", sparse, outcomes, each=False)
    ships = Knowledge.of(read_json(SHIPPED))
    for name, chosen in (("held out", HELD_OUT_FIRST), ("held out, made after the freeze", HELD_OUT_SECOND)):
        if held_out := [run for run in runs_held_out() if run.name in chosen]:
            report(name, held_out, outcomes_of(held_out, [ships] * len(held_out)))
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
