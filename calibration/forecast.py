"""Scores the forecasts of clm/explain on the runs whose curves are in the repository, in seconds.

    python -m calibration.forecast           prints the table and writes calibration/results/forecast.json
    python -m calibration.forecast --fit     also fits the constants that are shipped, to all runs but the frozen ones

AdamW and Muon have constants of their own. Every run is forecast with constants fitted to the others (leave-one-out).
The runs made after the code was frozen are forecast with the shipped constants, and reported apart.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from calibration.fit import CHOICES, MUON_CHOICES, SHARES, Fitter, Reference, reference
from calibration.runs import CURVES
from calibration.table import FROZEN
from clm.explain.forecast import SKIPPED_SHARE, Constants
from clm.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "forecast.json"
SHIPPED = CURVES.parent / "forecast_constants.json"


def last_value(run: Reference, share: float) -> float:
    """The naive forecast: it stays as it is."""
    return float(run.until(share).losses[-1])


def power_law(run: Reference, share: float) -> float:
    """Another: L0 + A t^-alpha in steps, least squares over the validation losses, whatever the schedule."""
    curve, total = run.until(share), run.law.total_steps
    keep = curve.steps >= SKIPPED_SHARE * total
    best = (np.inf, np.nan)
    for alpha in np.arange(0.05, 1.5, 0.05):
        design = np.stack((np.ones(keep.sum()), curve.steps[keep] ** -alpha), axis=1)
        fitted, *_ = np.linalg.lstsq(design, curve.losses[keep], rcond=None)
        misfit = float(((design @ fitted - curve.losses[keep]) ** 2).sum())
        best = min(best, (misfit, float(fitted[0] + fitted[1] * total**-alpha)))
    return best[1]


def score(outcomes: np.ndarray, naive: np.ndarray) -> dict:
    """Medians and coverage at each share. `outcomes` is (runs, shares, 2), `naive` (runs, shares, 2) errors."""
    errors, halves = outcomes[..., 0], outcomes[..., 1]
    said = ~np.isnan(errors)
    inside = np.abs(errors) <= halves
    rows = []
    for i, share in enumerate(SHARES):
        mine = said[:, i]
        rows.append({
            "share_of_steps": share,
            "runs": int(mine.sum()),
            "cannot_say": int((~mine).sum()),
            "median_error": float(np.median(np.abs(errors[mine, i]))),
            "mean_error": float(np.abs(errors[mine, i]).mean()),
            "bias": float(errors[mine, i].mean()),
            "median_half_interval": float(np.median(halves[mine, i])),
            "coverage": float(inside[mine, i].mean()),
            "last_value_median_error": float(np.median(np.abs(naive[mine, i, 0]))),
            "power_law_median_error": float(np.median(np.abs(naive[mine, i, 1]))),
        })  # fmt: skip
    chance = np.random.default_rng(0)
    draws = chance.integers(0, len(errors), (4000, len(errors)))
    covered = inside[draws].sum(axis=(1, 2)) / said[draws].sum(axis=(1, 2))
    low, high = np.quantile(covered, (0.05, 0.95))
    pooled = {"coverage": float(inside[said].mean()), "low": float(low), "high": float(high), "level_of_bounds": 0.9}
    return {"at": rows, "pooled": pooled}


def naive_errors(runs: list[Reference]) -> np.ndarray:
    """(runs, shares, 2): of the last value and of the power law."""
    guesses = [[(last_value(run, share), power_law(run, share)) for share in SHARES] for run in runs]
    return np.array(guesses) - np.array([run.final for run in runs])[:, None, None]


def show(title: str, runs: list[Reference], outcomes: np.ndarray, scored: dict) -> None:
    print(f"\n{title}\n")
    shares = "".join(f"{f'at {share:.0%}':>18}" for share in SHARES)
    print(f"{'run':<28}{'final':>8}{shares}")
    for run, rows in zip(runs, outcomes, strict=True):
        cells = "".join(
            f"{'cannot say':>18}"
            if np.isnan(error)
            else f"{error:+.3f} ±{half:.3f}{' ' if abs(error) <= half else '!'}".rjust(18)
            for error, half in rows
        )
        print(f"{run.name:<28}{run.final:>8.3f}{cells}")
    for row in scored["at"]:
        print(
            f"at {row['share_of_steps']:.0%} of the steps: median error {row['median_error']:.3f} nats (last value "
            f"{row['last_value_median_error']:.3f}, power law {row['power_law_median_error']:.3f}), interval "
            f"±{row['median_half_interval']:.3f}, covers {row['coverage']:.0%} of {row['runs']}, "
            f"cannot say: {row['cannot_say']}"
        )
    pooled = scored["pooled"]
    print(
        f"80 % intervals, pooled: cover {pooled['coverage']:.0%} ({pooled['low']:.0%} to {pooled['high']:.0%}, by run)"
    )


def leave_one_out(fitter: Fitter) -> np.ndarray:
    """(runs, shares, 2): of each run, forecast with constants fitted to the others."""
    numbers = range(len(fitter.runs))
    left_out = [fitter.fit([other for other in numbers if other != number]) for number in numbers]
    return np.array([fitter.outcome(known, number) for number, known in enumerate(left_out)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="write the constants that are shipped")
    fit = parser.parse_args().fit
    known = {} if fit else read_json(SHIPPED)
    references = [reference(entry) for entry in read_json(CURVES)]
    sets: dict[str, tuple[list, list]] = {"all": ([], []), "adamw": ([], []), "muon": ([], []), "frozen": ([], [])}
    for optimizer, choices in (("adamw", CHOICES), ("muon", MUON_CHOICES)):
        mine = [run for run in references if run.muon == (optimizer == "muon")]
        fitter = Fitter([run for run in mine if run.name not in FROZEN], choices)
        after = Fitter([run for run in mine if run.name in FROZEN])
        if fit:
            known[optimizer] = asdict(fitter.fit(range(len(fitter.runs))))
        ships, left_out = Constants(**known[optimizer]), leave_one_out(fitter)
        for name, runs, outcomes in (
            (optimizer, fitter.runs, left_out),
            ("all", fitter.runs, left_out),
            ("frozen", after.runs, [after.outcome(ships, number) for number in range(len(after.runs))]),
        ):
            sets[name][0].extend(runs)
            sets[name][1].extend(outcomes)
    result = {}
    for name, (runs, outcomes) in sets.items():
        result[name] = score(np.array(outcomes), naive_errors(runs))
        result[name]["errors"] = {run.name: rows[:, 0].tolist() for run, rows in zip(runs, outcomes, strict=True)}
        show(f"{name}: {len(runs)} runs", runs, outcomes, result[name])
    write_json(SHIPPED, known)
    write_json(RESULTS, result | {"constants": known})


if __name__ == "__main__":
    main()
