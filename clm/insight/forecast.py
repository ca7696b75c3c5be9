"""Where a run will end: its final validation loss, from its curve so far and the learning rates still to come.

    loss(t) = L0 + A S1(t)^-alpha - C S2(t)

S1 is the sum of learning rates so far, S2 how much of the peak rate was taken off again (Tissue et al. 2024,
arXiv 2408.11029; both in units of the peak rate, see scaling.annealed). L0 and A are the run's own; alpha and C have a
prior from the reference runs, so a curve that is short or hasn't decayed yet leans on what other runs did. A forecast is
the average over alphas, each weighted by how well it explains the curve, and its interval is as wide as it takes to hold
the stated share of the reference runs' ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clm.insight.scaling import annealed

LEVEL = 0.8
NORMAL_QUANTILE = 1.2816  # of LEVEL, two-sided
MEMORY_SHARE = 0.03  # of all steps: how long a fall of the learning rate takes to sink in
SKIPPED_SHARE = 0.05  # of all steps: while the model learns how often each token occurs, no power law holds
POINTS = 300
TRAINW = 1.5
AGEING = 2.0
FEWEST = 4  # measured losses, after those that are skipped
ALPHAS = np.arange(0.05, 0.95, 0.05)
NO_IDEA = 100.0  # nats: the prior standard deviation of what is the run's own


@dataclass(frozen=True)
class Constants:
    """What other runs teach. `alpha` and `decay` (C, nats for the whole peak rate) are means, `_sd` their spread.

    `noise` is how far a smooth law misses a measured loss, nats; `width` scales the interval to its stated share.
    """

    alpha: float
    alpha_sd: float
    decay: float
    decay_sd: float
    noise: float
    width: float


@dataclass(frozen=True)
class Losses:
    """Measured losses, nats a token, at optimizer steps: of validation, and of training, each a mean over `window`."""

    steps: np.ndarray
    losses: np.ndarray
    train_steps: np.ndarray
    train_losses: np.ndarray

    def until(self, step: float) -> "Losses":
        """What was known at `step`."""
        seen, trained = self.steps <= step, self.train_steps <= step
        return Losses(self.steps[seen], self.losses[seen], self.train_steps[trained], self.train_losses[trained])


@dataclass(frozen=True)
class Forecast:
    """The loss from now to the end: (points,) steps, the middle, and the bounds of the LEVEL interval."""

    steps: np.ndarray
    losses: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def final(self) -> tuple[float, float, float]:
        """Middle, lower and upper bound of the final loss."""
        return float(self.losses[-1]), float(self.low[-1]), float(self.high[-1])


class Law:
    """The law's two terms on a grid of steps, for one schedule."""

    def __init__(self, rates_at: Callable[[Sequence[int]], np.ndarray], total_steps: int) -> None:
        """Take the learning rates at given steps, from 1 to total_steps."""
        spread = np.concatenate((np.geomspace(1, total_steps, POINTS), np.linspace(1, total_steps, POINTS)))
        self.steps = np.unique(np.round(spread).astype(int))
        spacing = np.diff(self.steps, prepend=0).astype(float)
        rates = np.asarray(rates_at(self.steps), float)
        at_peak = rates / max(rates.max(), 1e-300)
        self.total_steps = total_steps
        memory = MEMORY_SHARE * float((at_peak * spacing).sum())
        self.walked, self.sunk = annealed(at_peak, spacing, memory)

    def terms(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """S1 and S2 at `steps`."""
        return np.interp(steps, self.steps, self.walked), np.interp(steps, self.steps, self.sunk)


def observations(measured: Losses, total_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the law is fitted to: steps, losses, and 1 where a loss is of training, whose level is another.

    Training losses are averaged over stretches as long as an evaluation's distance, and stand at their middle.
    """
    first = SKIPPED_SHARE * total_steps
    steps, losses = measured.steps, measured.losses
    keep = steps >= first
    rows = [(steps[keep], losses[keep], np.zeros(keep.sum()))]
    keep = measured.train_steps >= first
    if keep.sum() >= FEWEST:
        chunks = min(keep.sum() // 2, 12)
        step_parts = np.array_split(measured.train_steps[keep], chunks)
        loss_parts = np.array_split(measured.train_losses[keep], chunks)
        middles = np.array([part.mean() for part in step_parts])
        rows.append((middles, np.array([part.mean() for part in loss_parts]), np.ones(chunks)))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def forecast(measured: Losses, law: Law, constants: Constants) -> Forecast | None:
    """The rest of the curve, or None where it is too short to say.

    Args:
        measured: what the run has shown until now.
        law: of the schedule that the run will follow from now on, its past included.
    """
    steps, losses, of_training = observations(measured, law.total_steps)
    if len(steps) < FEWEST or len(measured.steps) == 0:
        return None
    now = max(measured.steps[-1], measured.train_steps[-1] if len(measured.train_steps) else 0)
    ahead = np.unique(np.linspace(now, law.total_steps, 60).round().astype(int))
    ages = np.log(now / steps)
    noise = constants.noise * (1 + AGEING * ages) * np.where(of_training > 0, TRAINW, 1.0)
    weights, means, variances = [], [], []
    for alpha in ALPHAS:
        design, future = _design(law, steps, of_training, alpha), _design(law, ahead, np.zeros(len(ahead)), alpha)
        prior_mean = np.array([losses[-1], 0.0, constants.decay, 0.0])
        prior_sd = np.array([NO_IDEA, NO_IDEA, constants.decay_sd, 1.0])
        mean, covariance, evidence = _posterior(design, losses, noise, prior_mean, prior_sd)
        weights.append(evidence - 0.5 * ((alpha - constants.alpha) / constants.alpha_sd) ** 2)
        means.append(future @ mean)
        variances.append(np.einsum("ij,jk,ik->i", future, covariance, future) + constants.noise**2)
    weights = np.exp(np.array(weights) - max(weights))
    weights /= weights.sum()
    middle = weights @ np.array(means)
    variance = weights @ (np.array(variances) + np.array(means) ** 2) - middle**2
    half = constants.width * NORMAL_QUANTILE * np.sqrt(np.maximum(variance, 0))
    return Forecast(ahead, middle, middle - half, middle + half)


def _design(law: Law, steps: np.ndarray, of_training: np.ndarray, alpha: float) -> np.ndarray:
    """Columns of L0, A, C and the distance of training losses; S1 relative to its end, so that A is in nats."""
    walked, sunk = law.terms(steps)
    return np.stack((np.ones(len(steps)), (walked / law.walked[-1]) ** -alpha, -sunk, of_training), axis=1)


def _posterior(
    design: np.ndarray, losses: np.ndarray, noise: np.ndarray, prior_mean: np.ndarray, prior_sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Bayesian linear regression: mean and covariance of the coefficients, and the log evidence up to a constant."""
    precision = np.diag(prior_sd**-2) + design.T @ (design / noise[:, None] ** 2)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (prior_mean / prior_sd**2 + design.T @ (losses / noise**2))
    misfit = ((losses - design @ mean) / noise) ** 2
    drift = ((mean - prior_mean) / prior_sd) ** 2
    return mean, covariance, -0.5 * float(misfit.sum() + drift.sum()) + 0.5 * np.linalg.slogdet(covariance)[1]
