"""The rest of a curve, forecast.

    loss(t) = L0 + slope (p^-alpha - 1) / alpha + decay (1 - S2(t)) p^growth + repeat ln(passes over the text)

p is progress, the sum of a power of the learning rates so far, 1 at the end; S2 how much of the peak rate was taken off
again (Tissue et al. 2024, arXiv 2408.11029, whose S1 is the sum of the rates themselves; with that the decay of a
cosine looked larger than that of a trapezoid, in models from 25M to 1.5B). Both are in units of the peak rate, see
law.py; in small models S2 is of a power of the rate too. What is left of the peak rate costs noise, the more of it the
further a model is: a decay that comes late brings more. The last term, what repeated text costs, is ours and counts
from the second pass on; the overfitting that the expected loss knows (scaling.Overfitting) comes on top.

L0 is the run's own. The other constants have priors from reference runs of the same size, length, optimizer and text,
with the constants' correlations (prior.py), so that a curve which is short, or hasn't decayed yet, leans on what those
did. A forecast is the mean over exponents and noise levels, each weighted by how well it explains the curve
(posterior.py). Its interval is as wide as it takes to hold LEVEL of the ends of reference runs that it wasn't fitted
to: no curve follows a law for ever, so it grows with the e-folds of progress still to come, as it did in those runs on
their texts.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from clm.explain.forecast.facts import Facts
from clm.explain.forecast.law import Law
from clm.explain.forecast.outside import outside
from clm.explain.forecast.posterior import Observations, design, together
from clm.explain.forecast.prior import Knowledge, knowledge
from clm.runs.curve import Curve

LEVEL = 0.8
NORMAL_QUANTILE = NormalDist().inv_cdf(0.5 + LEVEL / 2)  # two-sided
PLATEAU = 0.94  # of the unigram entropy: while a model learns how often each token occurs, no power law holds
TRAINING_WIDTH = 1.6  # what an interval from training losses alone needs to hold LEVEL, in the reference runs
POINTS = 60
EARLIEST_SHARE = 0.05  # of another schedule's steps, from which its forecast begins


@dataclass(frozen=True)
class Forecast:
    """The loss from now to the end: (points,) steps, the middle, and the bounds of the LEVEL interval.

    `of` is the kind of loss, `validation` or `training`; `outside` says what no reference run covers; `by` what it
    rests on: the run's own `curve`, `one loss` and what references make of it, or the end itself, `measured`.
    """

    steps: np.ndarray
    losses: np.ndarray
    low: np.ndarray
    high: np.ndarray
    of: str = "validation"
    outside: tuple[str, ...] = ()
    by: str = "curve"

    @classmethod
    def measured(cls, step: int, loss: float, of: str) -> "Forecast":
        """Of a finished run: the loss that it ended at, for certain."""
        return cls(np.array([step]), *(np.array([loss]),) * 3, of, by="measured")

    @property
    def final(self) -> tuple[float, float, float]:
        """Middle, lower and upper bound of the final loss."""
        return float(self.losses[-1]), float(self.low[-1]), float(self.high[-1])


def forecast(
    curve: Curve,
    law: Law,
    facts: Facts,
    unigram: float | None = None,
    instead: Law | None = None,
    known: Knowledge | None = None,
    floor: float = 0.0,
) -> Forecast | None:
    """The rest of the curve with its interval, or None where the curve is too short to say.

    Without validation losses it is the training loss that is forecast.

    Args:
        curve: what the run has shown until now.
        law: of the schedule that the run follows.
        facts: the model's size, the run's tokens and its optimizer, as far as they are known.
        unigram: entropy of the text's tokens, nats, if known: losses near it say nothing of what follows.
        instead: another schedule; the forecast is then of a run that follows that one from its first step.
        known: what other runs teach; by default what is shipped.
        floor: what no loss leads below, nats.
    """
    observations = Observations(curve, law, PLATEAU * unigram if unigram else np.inf)
    if not observations.enough:
        return None
    known = known or knowledge()
    ahead_law = instead or law
    start = curve.last_step if instead is None else EARLIEST_SHARE * ahead_law.total_steps
    ahead = np.unique(np.linspace(start, ahead_law.total_steps, POINTS).round().astype(int))
    fits = [observations.fit(prior) for prior in known.priors(facts)]
    folds = e_folds(law, curve.last_step, ahead_law, ahead)
    middle, sd = together(fits, design(ahead_law, ahead, observations.scale, observations.of_training), folds)
    kind = "training" if observations.of_training else "validation"
    if not observations.of_training:
        middle = middle + ahead_law.penalties(ahead)
    half = NORMAL_QUANTILE * sd * (TRAINING_WIDTH if observations.of_training else 1.0)
    bounds = (np.maximum(losses, floor) for losses in (middle, middle - half, middle + half))
    return Forecast(ahead, *bounds, kind, tuple(outside(facts, known.ranges)))


def e_folds(law: Law, now: int, ahead_law: Law, ahead: np.ndarray) -> np.ndarray:
    """(points,): by how many e-folds progress grows from now to the steps `ahead`, at least 0."""
    grown = ahead_law.progress(ahead) / law.progress(np.array([now]))
    return np.log(np.maximum(1.0, grown))
