"""Fits what the forecast knows beforehand to reference runs, and forecasts runs from the first part of their curves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from clm.explain import references
from clm.explain.forecast import NORMAL_QUANTILE, PLATEAU, Facts, Law, forecast
from clm.explain.forecast.facts import INPUTS, TEXTS, inputs, largeness, ranges
from clm.explain.forecast.posterior import ALPHAS, Observations
from clm.explain.forecast.prior import CONSTANTS, OTHER_TEXT, TEXT_SPREAD, Knowledge, Prior
from clm.files import read_json
from clm.runs.curve import Curve

HELD_OUT = Path(__file__).parent / "held_out_runs.json"
SHARES = (0.25, 0.33, 0.5, 0.75)
LATE_SHARE = 0.03
ROUNDS = 25  # of expectation and maximisation; the likelihood has settled by then
ROUNDS_AFTER = 4  # where a few runs are taken out of a fit
COEFFICIENT_SD = 1.0  # of each input but the constant one: without evidence a constant may be e times as large
LEAST_SPREAD = {"alpha": 0.05, "slope": 0.08, "decay": 0.15, "repeat": 0.03}
LEAST = (0.01, 0.02)  # nats, of slope and decay
WITHOUT_EVIDENCE = np.eye(len(CONSTANTS))  # correlations; large runs are too few, and of too few sources, to tell them
WITHOUT_EVIDENCE[0, 1] = WITHOUT_EVIDENCE[1, 0] = -0.5  # who flattens sooner falls more slowly at the end
UNCORRELATED = 0.1  # the share by which correlations are drawn to none
START = {"alpha": 0.45, "slope": math.log(0.25), "decay": math.log(0.2), "repeat": 0.1}
START_SPREAD = {"alpha": 0.2, "slope": 0.5, "decay": 0.4, "repeat": 0.06}


@dataclass(frozen=True)
class Reference:
    """A run whose curve is known to its end. `group` is the set of runs that it is scored with; runs of one `origin`
    share a part of their curves or all but one setting, and are left out together. Those of one `measure` are small
    runs whose validation text is the same, or large ones of one source.
    """

    name: str
    group: str
    origin: str
    source: str
    measure: str
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
    name, measure = entry["name"], f"{entry['text']} held out by seed {entry['recipe']['seed']}"
    return Reference(name, "small", origin(name), "small", measure, curve, law, entry["unigram_loss"], facts)


def _large(entry: dict) -> Reference:
    facts, law = references.large_facts(entry), references.large_law(entry)
    curve = Curve.from_points(entry["train"], entry["validation"])
    name, source = entry["name"], entry["family"]
    return Reference(name, entry["group"], origin(name), source, source, curve, law, None, facts)


def fit(runs: Sequence[Reference], start: Knowledge | None = None, rounds: int = ROUNDS) -> Knowledge:
    """The regressions that make these runs' curves likeliest, by expectation and maximisation (Dempster et al. 1977).

    In each round every run's constants are worked out from its whole curve and the regressions so far, then the
    regressions from all runs' constants. A constant that a run's curve doesn't tell keeps its prior, and adds nothing.
    """
    known = replace(start or _ignorant(), ranges=ranges([run.facts for run in runs]))
    rows = np.array([inputs(run.facts) for run in runs])
    nothing = {name: np.zeros((len(INPUTS), len(INPUTS))) for name in CONSTANTS}
    for _ in range(rounds):
        certain = replace(known, covariances=nothing)
        known = _regressed(known, rows, [_constants(run.whole, certain.prior(run.facts)) for run in runs])
    return known


def _ignorant() -> Knowledge:
    count = len(INPUTS)
    coefficients = {name: np.array([value] + [0.0] * (count - 1)) for name, value in START.items()}
    covariances = {name: np.zeros((count, count)) for name in START}
    spreads, correlations = ({"small": each, "large": each} for each in (list(START_SPREAD.values()), WITHOUT_EVIDENCE))
    widths = dict.fromkeys(("small", "small muon", "large"), (1.0, 0.0))
    ahead = dict.fromkeys((*TEXTS, OTHER_TEXT, "large"), 0.0)
    return Knowledge(coefficients, covariances, spreads, correlations, {}, widths, ahead)


def _constants(observations: Observations, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of CONSTANTS in a run; slope and decay in logarithms."""
    made = observations.fit(prior)
    alphas = np.broadcast_to(ALPHAS, made.weights.shape)[..., None]
    each = np.concatenate((alphas, made.coefficients[..., 1:4]), axis=2)
    mean = np.einsum("sa,sai->i", made.weights, each)
    covariance = np.einsum("sa,sai,saj->ij", made.weights, each - mean, each - mean)
    covariance[1:, 1:] += np.einsum("sa,saij->ij", made.weights, made.covariances[..., 1:4, 1:4])
    kept = np.maximum(mean[1:3], LEAST)
    scale = np.array([1.0, *(1 / kept), 1.0])
    mean[1:3] = np.log(kept)
    return mean, covariance * np.outer(scale, scale)


def _regressed(known: Knowledge, rows: np.ndarray, constants: Sequence[tuple[np.ndarray, np.ndarray]]) -> Knowledge:
    """The maximisation."""
    means, within = (np.array(each) for each in zip(*constants, strict=True))
    large = np.array(rows[:, INPUTS.index("large")] == 1)
    coefficients, covariances, off = {}, {}, np.zeros_like(means)
    for i, name in enumerate(CONSTANTS):
        others = len(INPUTS) - 1 - len(TEXTS)
        sds = np.array([1e3] + [COEFFICIENT_SD] * others + [TEXT_SPREAD[name]] * len(TEXTS))
        weighted = rows / np.where(large, known.spreads["large"][i], known.spreads["small"][i])[:, None] ** 2
        covariances[name] = np.linalg.inv(rows.T @ weighted + np.diag(sds**-2))
        coefficients[name] = covariances[name] @ (weighted.T @ means[:, i])
        off[:, i] = means[:, i] - rows @ coefficients[name]
    squares = off[:, :, None] * off[:, None, :] + within
    spreads, correlations = dict(known.spreads), dict(known.correlations)
    for size, of_size in (("small", ~large), ("large", large)):
        if not of_size.any():
            continue
        covariance = squares[of_size].mean(axis=0)
        sds = np.sqrt(np.diag(covariance))
        spreads[size] = np.maximum(sds, [LEAST_SPREAD[name] for name in CONSTANTS])
        if size == "small":
            correlated = covariance / np.outer(sds, sds)
            correlations[size] = (1 - UNCORRELATED) * correlated + UNCORRELATED * np.eye(len(CONSTANTS))
    found = {"coefficients": coefficients, "covariances": covariances}
    return replace(known, **found, spreads=spreads, correlations=correlations)


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
