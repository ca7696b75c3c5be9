"""Where a run will end: its final validation loss, from its curve so far and the learning rates still to come.

    loss(t) = L0 + A S1(t)^-alpha - C S2(t) + G ln(passes over the text, where more than one)

S1 is the sum of learning rates so far, S2 how much of the peak rate was taken off again (Tissue et al. 2024,
arXiv 2408.11029; both in units of the peak rate, see scaling.annealed); the last term, what repeated text costs, is
ours. L0 is the run's own; the others have a prior from the reference runs by the same optimizer, alpha's by the model's
size too, so that a curve which is short, hasn't decayed or hasn't repeated its text yet leans on what they did. A
forecast is the average over alphas, each weighted by how well it explains the curve. Its interval is as wide as it
takes to hold LEVEL of the reference runs' ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np

from clm.explain.scaling import annealed
from clm.files import read_json
from clm.runs.curve import Curve

LEVEL = 0.8
NORMAL_QUANTILE = NormalDist().inv_cdf(0.5 + LEVEL / 2)  # two-sided
MEMORY_SHARE = 0.03  # of all steps: how long a fall of the learning rate takes to sink in
SKIPPED_SHARE = 0.06  # of all steps, and
PLATEAU = 0.94  # of the unigram entropy: while a model learns how often each token occurs, no power law holds
GRID = 300
TRAIN_NOISE = 4.0  # times that of validation: each training loss is of another text
AGEING = 4.0  # a law that is a little wrong should fit best near the end: noise grows by so much an e-fold of age
FEWEST = 4  # measured losses, after those that are skipped
ALPHAS = np.arange(0.05, 0.85, 0.05)
SIZE, SIZES = 3e5, (5e4, 1.8e6)  # non-embedding parameters: the reference runs' middle, and their range
NO_IDEA = 100.0  # nats: the prior standard deviation of L0


@dataclass(frozen=True)
class Constants:
    """What other runs teach: a prior mean and standard deviation (`_sd`) of each of the law's coefficients.

    `slope` is A alpha: nats an e-fold of S1 at the end; `decay` is C, nats for the whole peak rate; `repeat` is G.
    `alpha_size` is how much less alpha is an e-fold of parameters. `noise` is how far a smooth law misses a measured
    loss; `width` scales the interval to its level.
    """

    alpha: float = 0.15
    alpha_size: float = 0.0
    alpha_sd: float = 0.05
    slope: float = 0.45
    slope_sd: float = 0.2
    decay: float = 0.35
    decay_sd: float = 0.1
    repeat: float = 0.12
    repeat_sd: float = 0.06
    noise: float = 0.03
    width: float = 1.0

    def sized(self, non_embedding_parameters: float) -> "Constants":
        """For a model of so many parameters: a small one has learned sooner what it can."""
        e_folds = np.log(np.clip(non_embedding_parameters, *SIZES) / SIZE)
        return replace(self, alpha=float(self.alpha - self.alpha_size * e_folds))


@cache
def constants(muon: bool, non_embedding_parameters: float) -> Constants:
    """Those fitted to the reference runs by Muon, or by AdamW (`python -m calibration.forecast --fit`)."""
    fitted = read_json(Path(__file__).parent / "references" / "forecast_constants.json")
    return Constants(**fitted["muon" if muon else "adamw"]).sized(non_embedding_parameters)


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
    """S1, S2 and the passes over the text at any step of one schedule."""

    def __init__(
        self,
        rates_at: Callable[[Sequence[int]], np.ndarray],
        total_steps: int,
        steps_per_pass: float,
        worth: float = 1.0,
    ) -> None:
        """Tabulate the schedule.

        Args:
            rates_at: the learning rates at steps from 1 to total_steps.
            steps_per_pass: optimizer steps in which as many tokens are trained on as the text has.
            worth: what a step is worth in steps of the run that the law was fitted to.
        """
        spread = np.concatenate((np.geomspace(1, total_steps, GRID), np.linspace(1, total_steps, GRID)))
        self.grid = np.unique(np.round(spread).astype(int))
        self.total_steps, self.steps_per_pass = total_steps, steps_per_pass
        spacing = np.diff(self.grid, prepend=0).astype(float)
        rates = np.asarray(rates_at(self.grid), float)
        at_peak = rates / rates.max()
        memory = MEMORY_SHARE * float((at_peak * spacing).sum())
        self.walked, self.sunk = annealed(at_peak, spacing, memory)
        self.walked *= worth

    def terms(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """S1, S2 and ln(passes) at `steps`, the last at least 0."""
        repeated = np.log(np.maximum(1.0, np.asarray(steps) / self.steps_per_pass))
        return np.interp(steps, self.grid, self.walked), np.interp(steps, self.grid, self.sunk), repeated


def forecast(
    curve: Curve, law: Law, known: Constants, unigram: float | None = None, instead: Law | None = None
) -> Forecast | None:
    """The rest of the curve with its interval, or None where the curve is too short to say.

    Args:
        curve: what the run has shown until now.
        law: of the schedule that the run follows.
        unigram: entropy of the text's tokens, nats, if known: losses near it say nothing of what follows.
        instead: another schedule; the forecast is then of a run that follows that one from its first step.
    """
    steps, losses, of_training = _observations(curve, law.total_steps, PLATEAU * unigram if unigram else np.inf)
    if len(steps) < FEWEST or not (of_training == 0).any():
        return None
    now, ahead_law = curve.last_step, instead or law
    start = now if instead is None else ahead_law.total_steps // 20
    ahead = np.unique(np.linspace(start, ahead_law.total_steps, 60).round().astype(int))
    noise = known.noise * (1 + AGEING * np.log(now / steps)) * np.where(of_training > 0, TRAIN_NOISE, 1.0)
    prior_mean = np.array([losses[0], known.slope, known.decay, known.repeat, 0.0])
    prior_sd = np.array([NO_IDEA, known.slope_sd, known.decay_sd, known.repeat_sd, 1.0])
    weights, means, variances = [], [], []
    for alpha in ALPHAS:
        scale = law.walked[-1]
        design = _design(law, steps, of_training, alpha, scale)
        future = _design(ahead_law, ahead, np.zeros(len(ahead)), alpha, scale)
        mean, covariance, evidence = _posterior(design, losses, noise, prior_mean, prior_sd)
        weights.append(evidence - 0.5 * ((alpha - known.alpha) / known.alpha_sd) ** 2)
        means.append(future @ mean)
        variances.append(np.einsum("ij,jk,ik->i", future, covariance, future) + known.noise**2)
    return _mixture(ahead, np.array(weights), np.array(means), np.array(variances), known.width)


def _observations(curve: Curve, total_steps: int, plateau: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the law is fitted to: steps, losses, and 1 where a loss is of training, whose level is another.

    Training losses are averaged over some stretches, and stand at their middles.
    """
    first = SKIPPED_SHARE * total_steps
    keep = (curve.steps >= first) & (curve.losses < plateau)
    rows = [(curve.steps[keep], curve.losses[keep], np.zeros(keep.sum()))]
    middles = curve.train_middles
    keep = (middles >= first) & (curve.train_losses < plateau)
    if keep.sum() >= FEWEST:
        stretches = min(int(keep.sum()) // 2, 12)
        split = [np.array_split(values[keep], stretches) for values in (middles, curve.train_losses)]
        rows.append((*(np.array([part.mean() for part in parts]) for parts in split), np.ones(stretches)))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def _design(law: Law, steps: np.ndarray, of_training: np.ndarray, alpha: float, scale: float) -> np.ndarray:
    """Columns of L0, the slope, C, G, and the distance of training losses; S1 relative to `scale`."""
    walked, sunk, repeated = law.terms(steps)
    power = ((walked / scale) ** -alpha - 1) / alpha
    return np.stack((np.ones(len(steps)), power, -sunk, repeated * (of_training == 0), of_training), axis=1)


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


def _mixture(
    steps: np.ndarray, log_weights: np.ndarray, means: np.ndarray, variances: np.ndarray, width: float
) -> Forecast:
    """The forecast of all alphas together, as their mean and spread; arguments are (alphas, steps)."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    middle = weights @ means
    half = width * NORMAL_QUANTILE * np.sqrt(weights @ (variances + (means - middle) ** 2))
    return Forecast(steps, middle, middle - half, middle + half)
