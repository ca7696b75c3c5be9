"""Scores the forecasts of clm/explain on the runs whose curves are in the repository, in a minute of one core.

    python -m calibration.forecast           prints the table and writes calibration/results/forecast.json
    python -m calibration.forecast --fit     also fits the constants that are shipped, to all runs that aren't held out

Every run is forecast with constants fitted to the others (leave-one-run-out); runs that share a part of their curves,
or differ in one setting only, are left out together. The large runs are forecast once more without anything of their
source (leave-one-source-out), the small ones without any run on their text. The runs that are held out of every
fit are forecast with the shipped constants, and reported apart.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from calibration.fit import (
    SHARES,
    Reference,
    by_training_alone,
    fit,
    fits_without,
    outcome,
    runs_at_hand,
    runs_held_out,
    sparsely_logged,
)
from calibration.runs import CURVES
from calibration.scores import NAIVE, naive_errors, score
from calibration.table import HELD_OUT_FIRST, HELD_OUT_SECOND
from calibration.widths import Evidence, Misses, widened
from clm.explain.forecast import NORMAL_QUANTILE, Knowledge
from clm.explain.forecast.facts import TEXTS
from clm.explain.forecast.prior import OTHER_TEXT
from clm.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "forecast.json"
SHIPPED = CURVES.parent / "forecast_constants.json"
GROUPS = ("small", "25M to 400M", "124M to 1.5B")


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


def without_text(run: Reference) -> Reference:
    """The run as if its text weren't known."""
    return replace(run, facts=replace(run.facts, text=None))


def by_origin(run: Reference) -> str:
    """What is left out together when a run is."""
    return run.origin


def by_measure(run: Reference) -> str:
    """What is left out together when a validation text is."""
    return run.measure


def by_source(run: Reference) -> str:
    """What is left out together when a source is."""
    return run.source


class Fits:
    """What is fitted to all runs, and without each: constants, then widths.

    A run that is to be forecast shares its validation text with no reference, so the widths of small runs are those
    that they need where all of the same validation text are left out.
    """

    def __init__(self, runs: Sequence[Reference]) -> None:
        """Fit without each run, each validation text, each text and each source."""
        self.small, self.large = [run for run in runs if not run.large], [run for run in runs if run.large]
        text_of = {run.name: run.facts.known_text for run in self.small}
        self.strange = [without_text(run) for run in self.small]
        by_text = partial(_text_of, text_of)
        known = fit(runs)
        small, large = (fits_without(mine, runs, by_origin, known) for mine in (self.small, self.large))
        no_text, no_source = fits_without(self.small, runs, by_text), fits_without(self.large, runs, by_source)
        no_measure = fits_without(self.small, runs, by_measure, known)
        evidence = Evidence(
            Misses.of(self.small, no_measure, list(text_of.values())),
            Misses.of(self.strange, no_text, [OTHER_TEXT] * len(self.small)),
            Misses.of(self.large, no_source, ["large"] * len(self.large)),
        )
        self.shipped = evidence.widen(known)
        self.without_run = widened(self.small, small, evidence, by_origin)
        self.large_without_run = widened(self.large, large, evidence, by_origin)
        self.without_measure = widened(self.small, no_measure, evidence, by_measure)
        self.without_text = widened(self.strange, no_text, evidence, by_text)
        self.without_source = widened(self.large, no_source, evidence, by_source)


def _text_of(texts: dict[str, str], run: Reference) -> str:
    return texts.get(run.name, run.source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="write the constants that are shipped")
    refit = parser.parse_args().fit
    runs = runs_at_hand()
    fits = Fits(runs)
    if refit:
        write_json(SHIPPED, fits.shipped.kept())
    result: dict[str, dict] = {}

    def report(
        name: str,
        mine: Sequence[Reference],
        known: Sequence[Knowledge],
        each: bool = True,
        chosen: Callable[[Reference], bool] = lambda run: True,
    ) -> None:
        picked = [(run, fitted) for run, fitted in zip(mine, known, strict=True) if chosen(run)]
        if not picked:
            return
        mine, outcomes = [run for run, _ in picked], outcomes_of(*zip(*picked, strict=True))
        naive = np.array([naive_errors(run, runs) for run in mine]) if len(mine[0].curve.losses) else None
        rows = score(outcomes, naive)
        result[name] = {"at": rows, "errors": errors_of(mine, outcomes)}
        show(name, mine, outcomes, rows, each)

    small, large = (fits.small, fits.without_run), (fits.large, fits.large_without_run)
    alone, sparse = ([make(run) for run in fits.small] for make in (by_training_alone, sparsely_logged))
    report("small", *small)
    for family in ("adamw", "muon"):
        report(f"small, by {family}", *small, False, lambda run, family=family: run.facts.family == family)
    for text in TEXTS:
        report(f"small, on {text}", *small, False, lambda run, text=text: run.facts.known_text == text)
    report("small, validation text left out", fits.small, fits.without_measure, False)
    report("small, text left out", fits.strange, fits.without_text, False)
    report("small, training losses alone", alone, fits.without_run, False)
    report("small, logged as the quickstart", sparse, fits.without_run, False)
    for group in GROUPS[1:]:
        report(group, *large, True, lambda run, group=group: run.group == group)
        report(f"{group}, source left out", fits.large, fits.without_source, True, lambda r, g=group: r.group == g)
    trained = [by_training_alone(run) for run in fits.large]
    report(f"{GROUPS[2]}, training losses alone", trained, fits.large_without_run, False, _trained(GROUPS[2]))
    ships, held_out = Knowledge.of(read_json(SHIPPED)), runs_held_out()
    for name, names in (("held out", HELD_OUT_FIRST), ("held out, made after the freeze", HELD_OUT_SECOND)):
        report(name, held_out, [ships] * len(held_out), True, lambda run, names=names: run.name in names)
    write_json(RESULTS, result)


def _trained(group: str) -> Callable[[Reference], bool]:
    return lambda run: run.group == group and len(run.curve.train_losses) > 0


if __name__ == "__main__":
    main()
