"""The law fitted to a curve: Bayesian linear regression for each exponent and noise level, and their mixture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clm.explain.forecast.law import Law
from clm.explain.forecast.prior import Prior
from clm.runs.curve import Curve

ALPHAS = np.arange(0.05, 1.26, 0.05)
NOISES = np.array([1.0, 2.0, 4.0, 8.0])  # times the prior's smallest
SKIPPED_SHARE = 0.08  # of all steps; the warmup is skipped too
STRETCHES = 14  # into which a curve is averaged, equally long in ln(step): more points of one tell little more
AGEING = 5.0  # a law that is a little wrong should fit best near the end: noise grows by so much an e-fold of age
TRAIN_NOISE = 3.0  # times that of validation: each training loss is of another text
FEWEST = 3  # stretches
FEWEST_MEASURED = 1  # of which so many are of the losses that are forecast
DISTANCE_SD = 1.0  # nats: of training losses from those of validation
NO_IDEA = 30.0  # nats: the prior standard deviation of L0
FARTHEST = 1.5  # of ln(slope), ln(decay) and repeat: no exponent moves them further
TEMPERED = 0.3  # the power of the evidence by which priors are weighed: a curve's losses aren't independent
TERMS = 5  # L0, slope, decay, repeat, and the distance of training losses


@dataclass(frozen=True)
class Stretch:
    """Losses that were averaged: their steps, their mean, and whether they are of training."""

    steps: np.ndarray
    loss: float
    of_training: bool


class Observations:
    """A curve's stretches as the regression takes them, worked out once for all priors."""

    def __init__(self, curve: Curve, law: Law, plateau: float = np.inf) -> None:
        """Gather what can be fitted to: losses below `plateau`, after warmup and the first SKIPPED_SHARE."""
        now = curve.last_step
        self.of_training = not len(curve.losses)
        first = max(1.0, SKIPPED_SHARE * law.total_steps, min(law.warmup_end, now / 2))
        rows = []
        if not self.of_training:
            losses = curve.losses - law.penalties(curve.steps)
            rows = _stretches(curve.steps, losses, first, now, plateau, False)
        measured = len(rows)
        if len(curve.train_losses) >= FEWEST:
            rows += _stretches(curve.train_middles, curve.train_losses, first, now, plateau, True)
            measured = len(rows) if self.of_training else measured
        self.enough = len(rows) >= FEWEST and measured >= FEWEST_MEASURED
        if not self.enough:
            return
        self.scale = law.progress(np.array([law.total_steps]))[0]
        ages = np.log(now / np.array([row.steps.mean() for row in rows]))
        training = np.array([row.of_training for row in rows])
        self._noise = (1 + AGEING * ages) * np.where(training, TRAIN_NOISE, 1.0)
        self._losses = np.array([row.loss for row in rows])
        means = [design(law, row.steps, self.scale, row.of_training).mean(axis=1) for row in rows]
        weighted = np.stack(means, axis=1) / self._noise[:, None]  # (alphas, stretches, TERMS)
        self._gram = np.einsum("ani,anj->aij", weighted, weighted)
        self._moment = weighted.transpose(0, 2, 1) @ (self._losses / self._noise)

    def fit(self, prior: Prior) -> "Mixture":
        """The law's coefficients given the curve, for every noise level and exponent."""
        mean, spread = self.expected(prior)
        sureness = np.linalg.inv(spread)
        expected = np.einsum("aij,aj->ai", sureness, mean)
        noise = (prior.noise * NOISES)[:, None, None]
        precision = self._gram / noise[..., None] ** 2 + sureness
        covariance = np.linalg.inv(precision)
        moment = self._moment / noise**2 + expected
        coefficients = np.einsum("saij,saj->sai", covariance, moment)
        misfit = ((self._losses / self._noise) ** 2).sum() / noise[..., 0] ** 2 + (mean * expected).sum(axis=1)
        misfit = misfit - (coefficients * moment).sum(axis=2)
        evidence = -0.5 * (misfit + np.linalg.slogdet(precision)[1] + np.linalg.slogdet(spread)[1])
        evidence = evidence - len(self._losses) * np.log(noise[..., 0])
        by_alpha = -0.5 * ((ALPHAS - prior.alpha) / prior.sds[0]) ** 2
        return Mixture(
            evidence + by_alpha - np.logaddexp.reduce(by_alpha), coefficients, covariance, noise[:, 0, 0], prior
        )

    def expected(self, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
        """Mean (alphas, TERMS) and covariance (alphas, TERMS, TERMS) of the coefficients before the curve is seen.

        Slope, decay and repeat are what goes with each exponent, as they are correlated over runs.
        """
        sds, correlations = np.array(prior.sds), np.array(prior.correlations)
        with_alpha = correlations[0, 1:]
        moved = np.clip((ALPHAS - prior.alpha)[:, None] / sds[0] * with_alpha * sds[1:], -FARTHEST, FARTHEST)
        units = np.array([prior.slope, prior.decay, 1.0]) * np.exp(moved * [1, 1, 0])
        mean = np.zeros((len(ALPHAS), TERMS))
        mean[:, 0] = self._losses[0]
        mean[:, 1:3], mean[:, 3] = units[:, :2], prior.repeat + moved[:, 2]
        left = (correlations[1:, 1:] - np.outer(with_alpha, with_alpha)) * np.outer(sds[1:], sds[1:])
        spread = np.zeros((len(ALPHAS), TERMS, TERMS))
        spread[:, 0, 0], spread[:, 4, 4] = NO_IDEA**2, DISTANCE_SD**2
        spread[:, 1:4, 1:4] = left * units[:, :, None] * units[:, None, :]
        return mean, spread


@dataclass(frozen=True)
class Mixture:
    """Fits for every noise level and exponent: log weights (noises, alphas), coefficients and covariances."""

    log_weights: np.ndarray
    coefficients: np.ndarray
    covariances: np.ndarray
    noises: np.ndarray
    prior: Prior

    @property
    def weights(self) -> np.ndarray:
        """(noises, alphas), which sum to 1."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        return weights / weights.sum()

    def at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the loss at design rows (alphas, points, TERMS): each (noises, alphas, points)."""
        means = np.einsum("api,sai->sap", rows, self.coefficients)
        variances = np.einsum("api,saij,apj->sap", rows, self.covariances, rows) + self.noises[:, None, None] ** 2
        return means, variances


def design(law: Law, steps: np.ndarray, scale: float, of_training: bool = False) -> np.ndarray:
    """(alphas, steps, TERMS): the terms of the loss, with progress relative to `scale`.

    A training loss doesn't pay for repeated text, and lies at a distance of its own.
    """
    _, _, repeated = law.terms(steps)
    rows = np.zeros((len(ALPHAS), len(steps), TERMS))
    rows[..., 0] = 1.0
    alphas = ALPHAS[:, None]
    rows[..., 1] = ((law.progress(steps) / scale) ** -alphas - 1) / alphas
    rows[..., 2] = law.noise(steps)
    rows[..., 3] = 0.0 if of_training else repeated
    rows[..., 4] = of_training
    return rows


def together(mixtures: Sequence[Mixture], rows: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the loss at design rows, over all priors: (points,) each.

    A prior's variance is scaled by the square of its `width`, and has that of its `floor` and of its `ahead` added, for
    each of the `folds`, (points,), by which progress is still to grow, before they are mixed.
    """
    evidence = TEMPERED * np.array([np.logaddexp.reduce(mixture.log_weights, axis=None) for mixture in mixtures])
    shares = np.exp(evidence - np.logaddexp.reduce(evidence))
    middle, second = 0.0, 0.0
    for share, mixture in zip(shares, mixtures, strict=True):
        means, variances = mixture.at(rows)
        own = np.einsum("sa,sap->p", mixture.weights, means)
        spread = np.einsum("sa,sap->p", mixture.weights, variances + (means - own) ** 2)
        known = mixture.prior
        spread = known.width**2 * spread + known.floor**2 + (known.ahead * folds) ** 2
        middle, second = middle + share * own, second + share * (spread + own**2)
    return middle, np.sqrt(np.maximum(second - middle**2, 0.0))


def _stretches(
    steps: np.ndarray, losses: np.ndarray, first: float, now: float, plateau: float, of_training: bool
) -> list[Stretch]:
    if now < first:  # step 0 among them, where eval_on_start evaluates
        return []
    keep = (steps >= first) & (steps <= now) & (losses < plateau)
    steps, losses = steps[keep], losses[keep]
    which = np.searchsorted(np.geomspace(first, now * 1.000001, STRETCHES + 1), steps, side="right")
    return [Stretch(steps[which == i], float(losses[which == i].mean()), of_training) for i in np.unique(which)]
