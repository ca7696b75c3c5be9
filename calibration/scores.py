"""Scores of forecasts: their errors beside those of naive ones, and how many ends their intervals hold."""

import math
from collections.abc import Sequence

import numpy as np

from calibration.fit import SHARES, Reference
from clm.explain.forecast import NORMAL_QUANTILE
from clm.explain.forecast.posterior import SKIPPED_SHARE

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
