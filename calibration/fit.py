"""Fits what the forecast knows beforehand to reference runs, and forecasts runs from the first part of their curves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from clm.explain import references
from clm.explain.forecast import NORMAL_QUANTILE, PLATEAU, Facts, Law, forecast
from clm.explain.forecast.facts import INPUTS, inputs, largeness, ranges
from clm.explain.forecast.posterior import ALPHAS, SLOPE_OF_ALPHA, Observations
from clm.explain.forecast.prior import Knowledge, Prior
from clm.files import read_json
from clm.runs.curve import Curve

HELD_OUT = Path(__file__).parent / "held_out_runs.json"
SHARES = (0.25, 0.33, 0.5, 0.75)
LATE_SHARE = 0.03
ROUNDS = 25  # of expectation and maximisation; the likelihood has settled by then
ROUNDS_AFTER = 4  # where a few runs are taken out of a fit
COEFFICIENT_SD = 1.0  # of each input but the constant one: without evidence a constant may be e times as large
LEAST_SPREAD = {"alpha": 0.05, "slope": 0.08, "decay": 0.15, "repeat": 0.06}
START = {"alpha": 0.45, "slope": math.log(0.25), "decay": math.log(0.2), "repeat": 0.1}
START_SPREAD = {"alpha": 0.2, "slope": 0.5, "decay": 0.4, "repeat": 0.06}
FLOORS = {"small": 0.01, "large": 0.007}  # nats: what no forecast is surer than


@dataclass(frozen=True)
class Reference:
    """A run whose curve is known to its end. `group` is the set of runs that it is scored with; runs of one `origin`
    share a part of their curves or all but one setting, and are left out together.
    """

    name: str
    group: str
    origin: str
    source: str
    curve: Curve
    law: Law
    unigram: float | None
    facts: Facts

    @property
    def final(self) -> float:
        """The last validation loss; without any the mean training loss over the last LATE_SHARE of the steps."""
        curve = self.curve
        if len(curve.losses):
            return float(curve.losses[-1])
        return float(curve.train_losses[curve.train_steps > (1 - LATE_SHARE) * self.law.total_steps].mean())

    @property
    def large(self) -> bool:
        """Whether it counts as a large model."""
        return largeness(self.facts.parameters) == 1

    def until(self, share: float) -> Curve:
        """The curve's first part."""
        return self.curve.until(share * self.law.total_steps)

    @cached_property
    def whole(self) -> Observations:
        """All of the curve, as it is fitted."""
        return Observations(self.curve, self.law, PLATEAU * self.unigram if self.unigram else np.inf)


def runs_at_hand() -> list[Reference]:
    """Every reference run with a curve."""
    return [_small(entry) for entry in references.entries("small_runs.json")] + [
        _large(entry) for entry in references.entries("large_runs.json")
    ]


def runs_held_out() -> list[Reference]:
    """The runs that nothing is fitted to."""
    return [_small(entry) for entry in read_json(HELD_OUT)]


def origin(name: str) -> str:
    """What this run shares its curve's beginning, or all but one setting, with."""
    for change in ("-dropout", "-no-warmup", "-no-decay"):
        name = name.removesuffix(change)
    return name.replace("wsdld", "wsd")  # the same run until its decay


def _small(entry: dict) -> Reference:
    facts, law = references.small_facts(entry), references.small_law(entry)
    curve = Curve.from_points(entry["train"], entry["validation"])
    return Reference(entry["name"], "small", origin(entry["name"]), "small", curve, law, entry["unigram_loss"], facts)


def _large(entry: dict) -> Reference:
    facts, law = references.large_facts(entry), references.large_law(entry)
    curve = Curve.from_points(entry["train"], entry["validation"])
    return Reference(entry["name"], entry["group"], origin(entry["name"]), entry["family"], curve, law, None, facts)


def fit(runs: Sequence[Reference], start: Knowledge | None = None, rounds: int = ROUNDS) -> Knowledge:
    """The regressions that make these runs' curves likeliest, by expectation and maximisation (Dempster et al. 1977).

    In each round every run's constants are worked out from its whole curve and the regressions so far, then the
    regressions from all runs' constants. A constant that a run's curve doesn't tell keeps its prior, and adds nothing.
    """
    known = replace(start or _ignorant(), ranges=ranges([run.facts for run in runs]))
    rows = np.array([inputs(run.facts) for run in runs])
    for _ in range(rounds):
        known = _regressed(known, rows, [_constants(run.whole, known.prior(run.facts)) for run in runs])
    return known


def _ignorant() -> Knowledge:
    count = len(INPUTS)
    coefficients = {name: np.array([value] + [0.0] * (count - 1)) for name, value in START.items()}
    covariances = {name: np.zeros((count, count)) for name in START}
    return Knowledge(coefficients, covariances, START_SPREAD, {}, {"small": (1.0, 0.0), "large": (1.0, 0.0)})


def _constants(observations: Observations, prior: Prior) -> dict[str, tuple[float, float]]:
    """Mean and variance of a run's alpha, slope, decay and repeat."""
    made = observations.fit(prior)
    weights = made.weights
    alphas = weights.sum(axis=0)
    alpha = float(alphas @ ALPHAS)
    found = {"alpha": (alpha, float(alphas @ (ALPHAS - alpha) ** 2))}
    for i, name in enumerate(("slope", "decay", "repeat"), 1):
        means, variances = made.coefficients[..., i], made.covariances[..., i, i]
        mean = float((weights * means).sum())
        found[name] = (mean, float((weights * (variances + (means - mean) ** 2)).sum()))
    return found


def _regressed(known: Knowledge, rows: np.ndarray, constants: Sequence[dict]) -> Knowledge:
    """The maximisation: slope and decay in logarithms, the slope without what goes with its run's alpha."""
    values = {name: np.array([each[name][0] for each in constants]) for name in START}
    variances = {name: np.array([each[name][1] for each in constants]) for name in START}
    for name, least in (("slope", 0.01), ("decay", 0.02)):
        kept = np.maximum(values[name], least)
        values[name], variances[name] = np.log(kept), variances[name] / kept**2
    coefficients, covariances, spreads = {}, {}, {}
    for name in START:
        if name == "slope":
            off = values["alpha"] - rows @ coefficients["alpha"]
            values[name] = values[name] - SLOPE_OF_ALPHA * off
            variances[name] = np.maximum(
                variances[name] - SLOPE_OF_ALPHA**2 * variances["alpha"], 0.2 * variances[name]
            )
        precision = rows.T @ rows / known.spreads[name] ** 2 + np.diag(
            [1e-6] + [COEFFICIENT_SD**-2] * (len(INPUTS) - 1)
        )
        covariances[name] = np.linalg.inv(precision)
        coefficients[name] = covariances[name] @ (rows.T @ values[name]) / known.spreads[name] ** 2
        misfit = (values[name] - rows @ coefficients[name]) ** 2 + variances[name]
        spreads[name] = max(LEAST_SPREAD[name], math.sqrt(float(misfit.mean())))
    spreads["repeat"] = LEAST_SPREAD["repeat"]
    return replace(known, coefficients=coefficients, covariances=covariances, spreads=spreads)


def outcome(run: Reference, known: Knowledge) -> np.ndarray:
    """(shares, 2): the forecast's error in nats, and its standard deviation; NaN where it couldn't say."""
    made = [forecast(run.until(share), run.law, run.facts, run.unigram, known=known) for share in SHARES]
    finals = np.array([each.final if each else (np.nan,) * 3 for each in made])
    return np.stack((finals[:, 0] - run.final, (finals[:, 2] - finals[:, 1]) / 2 / NORMAL_QUANTILE), axis=1)


def fits_without(
    runs: Sequence[Reference],
    every: Sequence[Reference],
    together: Callable[[Reference], str],
    start: Knowledge | None = None,
) -> list[Knowledge]:
    """For each run what is fitted to those of `every` that aren't `together` with it.

    With `start`, a fit to all runs, a few rounds take out what the left-out ones taught; without, it begins anew.
    """
    fits: dict[str, Knowledge] = {}
    for key in dict.fromkeys(together(run) for run in runs):
        others = [other for other in every if together(other) != key]
        fits[key] = fit(others, start, ROUNDS_AFTER if start else ROUNDS)
    return [fits[together(run)] for run in runs]


def by_training_alone(run: Reference) -> Reference:
    """The run as if it had never been validated."""
    none = np.array([])
    return replace(run, curve=Curve(run.curve.train_steps, run.curve.train_losses, none, none))


def sparsely_logged(run: Reference) -> Reference:
    """The run as if it had been logged like recipes/quickstart.json: 4 evaluations, and 16 training losses."""
    curve, total = run.curve, run.law.total_steps
    evaluated = [int(np.abs(curve.steps - share * total).argmin()) for share in (0.25, 0.5, 0.75, 1.0)]
    parts = np.searchsorted(np.linspace(0, total, 17), curve.train_steps, side="left")
    trained = [(curve.train_steps[parts == i][-1], curve.train_losses[parts == i].mean()) for i in np.unique(parts)]
    steps, losses = np.array(trained).T
    return replace(run, curve=Curve(steps, losses, curve.steps[evaluated], curve.losses[evaluated]))


def width(outcomes: np.ndarray, floor: float) -> float:
    """By how much to multiply the standard deviations so that the intervals hold 80 % of these outcomes; at least 1.

    Where fewer would do, the runs are few and alike: what the fit itself leaves open isn't taken away.
    """
    errors, sds = outcomes.reshape(-1, 2).T
    said = ~np.isnan(errors)
    needed = np.sqrt(np.maximum((errors[said] / NORMAL_QUANTILE) ** 2 - floor**2, 0)) / sds[said]
    rank = min(1.0, 0.8 * (len(outcomes) + 1) / len(outcomes))  # as in split conformal prediction, by run
    return max(1.0, float(np.quantile(needed, rank)))
