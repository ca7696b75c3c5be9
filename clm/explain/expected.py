"""What loss a set-up should show by a step: theory's shape, calibrated on runs whose curves are kept here.

Expected loss =
    floor + p A / N^a + q B / D^b - c S2 + h (unigram entropy) + l ln(bytes a token) - r ln(learning rate)
    + k ln(block size / 1024) + m (if Muon) + large (n (if Muon) + d S2), in part where between small and large
    + o (10 dropout^2 / (1 + parameters for each token of the text)) + text + place + overfitting

A, a, B, b are Hoffmann et al.'s (scaling.CHINCHILLA); D is what the tokens, counted at the peak rate, are worth after
repetition (Muennighoff et al. 2023; in small models less) and beside the critical batch (McCandlish et al. 2018, Kaplan
et al. 2020); S2 is the annealing of Tissue et al. 2024; overfitting is scaling.OVERFITTING. What theory leaves open,
its level at a size and length (`place`), a text's own difficulty (`text`: a level, and in small models what annealing
and Muon give on it) and how strongly each term counts, is a Gaussian process fitted to the reference runs: near them it
is sure, far from them it falls back on theory with a wide band. Scored in calibration/expected.py, and for runs of many
epochs in calibration/repetition.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clm.explain.forecast import NORMAL_QUANTILE
from clm.explain.forecast.facts import largeness
from clm.explain.scaling import (
    CHINCHILLA,
    OVERFITTING,
    REPEAT_HALF_LIFE,
    SMALL_HALF_LIFE,
    Overfitting,
    critical_batch_tokens,
    effective_tokens,
    efficient_tokens,
    typical_bytes_per_token,
    typical_unigram_entropy,
    usual_learning_rate,
)
from clm.explain.situation import Point, Situation

# Coefficients of _features' first LINEAR: what theory or experience says, and how far it may be off.
PRIOR_MEAN = np.array([CHINCHILLA.floor, 1.0, 1.0, -0.25, 0.6, -0.15, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0])
PRIOR_SD = np.array([0.5, 0.5, 0.5, 0.15, 0.2, 0.15, 0.15, 0.3, 1.0, 0.1, 0.5, 0.1])
LINEAR = len(PRIOR_MEAN)
# Standard deviations in nats, chosen by the likelihood of left-out runs: of a place, of a text whose unigram entropy
# is measured, and what is added where it is guessed; then, of small and of large models, of a run (seed, tuning, code)
# and of a measured loss. The large references are well tuned.
PLACE_SD, TEXT_SD, GUESSED_SD = 0.5, 0.2, 0.4
UNKNOWN_SD = 0.17  # and not TEXT_SD of a text that no reference has: what left-out texts of small models need
RUN_SD, NOISE_SD = (0.14, 0.08), (0.065, 0.025)
# How much more or less, in small models, a whole annealing and Muon give on one text than on another; each is counted
# from the middle. More of the first is likelier still, and changes little: 0.19 to 0.54 nats instead of 0.19 to 0.49.
SLOPES, SLOPE_MEANS, SLOPE_SD = [3, 7], np.array([0.5, 0.5]), np.array([0.04, 0.1])
PLACE_LENGTHS = np.array([2.0, 1.0])  # e-folds of parameters and of tokens over which a place's level carries
PENALTY_SD = 0.15  # of the penalty for overfitting, as a share of it
ASSUMED_SD = 0.15  # of a published loss whose set-up is partly assumed
TRAINING_SD = 0.15  # how far a training loss may lie from the validation loss, for what dropout and repetition do
# Nats that it lies higher for the dropout that is on, by its rate: in pairs of small runs 0.06 to 0.17 at 0.1, 0.10 in
# the pair that sees its text but once, as large models do.
TRAINING_DROPOUT = 1.0
MUON_TOKENS = 1 / 0.52  # what a token is worth under Muon: Liu et al. 2025 (arXiv 2502.16982), figure 3; of AdamW's
NEAR, FARTHEST = 1.5, 1.0  # NEAR e-folds of parameters or tokens count as 1; beyond FARTHEST from all, nothing is said


@dataclass(frozen=True)
class Expectation:
    """The expected loss and its standard deviation, nats; whether references are near; the nearest one's name."""

    loss: float
    sd: float
    covered: bool
    nearest: str

    @property
    def band(self) -> tuple[float, float]:
        """The 80 % interval."""
        return self.loss - NORMAL_QUANTILE * self.sd, self.loss + NORMAL_QUANTILE * self.sd

    def share_below(self, loss: float) -> float:
        """How many of such runs have a lower loss than this."""
        return 0.5 * (1 + math.erf((loss - self.loss) / self.sd / math.sqrt(2)))


@dataclass(frozen=True)
class _Points:
    """Points as the kernel takes them: (points, LINEAR + 2) features, and labels."""

    features: np.ndarray
    texts: Sequence[str | None]
    guessed: np.ndarray  # whether the text's unigram entropy is
    runs: Sequence[str]

    @property
    def places(self) -> np.ndarray:
        """(points, 2): ln parameters and ln tokens."""
        return self.features[:, LINEAR:]

    @cached_property
    def largeness(self) -> np.ndarray:
        """(points,): from 0 for a small model to 1 for a large one."""
        return np.array([largeness(math.exp(size)) for size in self.places[:, 0]])

    @property
    def slopes(self) -> np.ndarray:
        """(points, SLOPES): what a text's own part in them counts for; large models' texts are too few to tell."""
        return (1 - self.largeness)[:, None] * (self.features[:, SLOPES] - SLOPE_MEANS) * SLOPE_SD

    def by_size(self, small: float, large: float) -> np.ndarray:
        """(points,) a standard deviation that is one in small and another in large models."""
        return small ** (1 - self.largeness) * large**self.largeness


class Model:
    """The Gaussian process over reference points, of a law of overfitting."""

    def __init__(self, points: Sequence[Point], law: Overfitting = OVERFITTING) -> None:
        self._law = law
        self._guessed_texts = {point.situation.text for point in points if point.situation.unigram is None}
        self._known = _Points(
            np.array([_features(point.situation, point.step, point.loss) for point in points]),
            [point.situation.text for point in points],
            np.array([point.situation.unigram is None for point in points]),
            [point.run for point in points],
        )
        assumed = np.array([ASSUMED_SD * point.assumed for point in points])
        penalties = np.array([point.situation.overfitting(point.step, law) for point in points])
        usual = self._known.by_size(*NOISE_SD)
        own = np.array([point.noise or usual[at] for at, point in enumerate(points)])
        noise = own**2 + assumed**2 + (PENALTY_SD * penalties) ** 2
        root = np.linalg.cholesky(_kernel(self._known, self._known) + np.diag(noise))
        self._whitening = np.linalg.inv(root)
        self._inverse = self._whitening.T @ self._whitening
        losses = np.array([point.loss for point in points])
        self._above_theory = losses - self._known.features[:, :LINEAR] @ PRIOR_MEAN
        self._weights = self._inverse @ (self._above_theory - penalties)

    def misfits(self, penalties: np.ndarray) -> np.ndarray:
        """The points' losses as independent standard deviations from what is expected, with these penalties, nats."""
        return self._whitening @ (self._above_theory - penalties)

    def expect(self, situation: Situation, step: float, of_training: bool = False) -> Expectation:
        """The loss to expect of a run in this situation after `step` optimizer steps."""
        mine = self._placed(situation, step)
        penalty = 0.0 if of_training else situation.overfitting(step, self._law)
        noise = float(mine.by_size(*NOISE_SD)[0] ** 2) + (PENALTY_SD * penalty) ** 2
        variance = self._covariance(mine, mine, of_training) + noise
        distances = np.linalg.norm((self._known.places - mine.places) / NEAR, axis=1)
        nearest = int(distances.argmin())
        loss = self._mean(mine) + penalty + of_training * TRAINING_DROPOUT * situation.dropout
        return Expectation(loss, math.sqrt(variance), bool(distances[nearest] <= FARTHEST), self._known.runs[nearest])

    def expect_after(
        self, situation: Situation, shown: tuple[float, float], step: float, of_training: bool = False
    ) -> Expectation:
        """The same, of a run that has `shown` a loss of this kind: a step before, and the loss there."""
        at, loss = shown
        before, then = self.expect(situation, at, of_training), self.expect(situation, step, of_training)
        both = self._covariance(self._placed(situation, at), self._placed(situation, step), of_training)
        share = both / before.sd**2
        sd = math.sqrt(then.sd**2 - share * both)
        return replace(then, loss=then.loss + share * (loss - before.loss), sd=sd)

    def _placed(self, situation: Situation, step: float) -> _Points:
        if situation.text in self._guessed_texts:  # its difficulty was learned beside the guess
            situation = replace(situation, unigram=None, bytes_per_token=None)
        loss = 4.0
        for _ in range(4):  # the critical batch depends on the loss; this settles at once
            features = _features(situation, step, min(max(loss, 2.0), 8.0))[None]
            mine = _Points(features, [situation.text], np.array([situation.unigram is None]), ["this run"])
            loss = self._mean(mine)
        return mine

    def _mean(self, mine: _Points) -> float:
        return float(mine.features[0, :LINEAR] @ PRIOR_MEAN + _kernel(mine, self._known)[0] @ self._weights)

    def _covariance(self, left: _Points, right: _Points, of_training: bool) -> float:
        """Of two losses of one run, given the references; without the noise of a single loss."""
        known = (_kernel(each, self._known)[0] for each in (left, right))
        own = float(_kernel(left, right)[0, 0]) + of_training * TRAINING_SD**2
        if left.texts[0] is None:
            own += UNKNOWN_SD**2 + float(left.guessed[0]) * GUESSED_SD**2
        return own - float(next(known) @ self._inverse @ next(known))


def _features(situation: Situation, step: float, loss: float) -> np.ndarray:
    """LINEAR that count linearly, and ln N and ln D, the place. `loss` sets the critical batch."""
    lr_sum, lr_annealed, _ = (float(term[0]) for term in situation.law.terms(np.array([step])))
    parameters = situation.non_embedding_parameters
    large = largeness(parameters)
    tokens = lr_sum * situation.tokens_per_step * (MUON_TOKENS if situation.muon else 1.0)
    if situation.dataset_tokens:
        half_life = SMALL_HALF_LIFE ** (1 - large) * REPEAT_HALF_LIFE**large
        tokens = effective_tokens(situation.dataset_tokens, tokens, half_life)
    tokens = efficient_tokens(tokens, situation.tokens_per_step, critical_batch_tokens(loss))
    few_parameters, few_tokens = CHINCHILLA.terms(parameters, tokens)
    rate = float(np.clip(math.log(situation.peak_rate / usual_learning_rate(parameters)), -2, 1))
    vocabulary = situation.vocab_size
    difficulty = (situation.unigram or typical_unigram_entropy(vocabulary)) - typical_unigram_entropy(50_257)
    size = situation.bytes_per_token or typical_bytes_per_token(vocabulary)
    length = math.log(size / typical_bytes_per_token(vocabulary))
    context = math.log(situation.block_size / 1024)
    muon = float(situation.muon)
    linear = [1.0, few_parameters, few_tokens, lr_annealed, difficulty, rate, context, muon, length]
    linear += [muon * large, 10 * situation.dropout**2 / (1 + situation.parameters_per_token), lr_annealed * large]
    return np.array([*linear, math.log(parameters), math.log(tokens)])


def _kernel(left: _Points, right: _Points) -> np.ndarray:
    """Covariance of the losses of two sets of points: shared coefficients, text, run, place."""
    linear = (left.features[:, :LINEAR] * PRIOR_SD**2) @ right.features[:, :LINEAR].T
    text, run = _same(left.texts, right.texts), _same(left.runs, right.runs)
    squared = (((left.places[:, None] - right.places[None]) / PLACE_LENGTHS) ** 2).sum(axis=2)
    text_variance = TEXT_SD**2 + np.outer(left.guessed, right.guessed) * GUESSED_SD**2 + left.slopes @ right.slopes.T
    run_variance = np.outer(left.by_size(*RUN_SD), right.by_size(*RUN_SD))
    return linear + text_variance * text + run_variance * run + PLACE_SD**2 * np.exp(-squared / 2)


def _same(left: Sequence[str | None], right: Sequence[str | None]) -> np.ndarray:
    """(left, right): whether two names are one; what has none is like nothing."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*left, *right]))}
    mine, theirs = (np.array([numbers[name] for name in names]) for names in (left, right))
    return (mine[:, None] == theirs[None]) & (mine[:, None] != numbers.get(None, -1))
