"""What loss a set-up should show by a step: theory's shape, calibrated on runs whose curves are kept here.

Expected loss =
    floor + p A / N^a + q B / D^b - c S2 + h (unigram entropy) - r ln(learning rate) + m (if Muon) + text + place

A, a, B, b are Hoffmann et al.'s (scaling.CHINCHILLA); D is what the tokens walked at the peak rate are worth after
repetition (Muennighoff et al. 2023) and beside the critical batch (McCandlish et al. 2018, Kaplan et al. 2020); S2 is
the annealing of Tissue et al. 2024. What theory leaves open, its level at a size and length (`place`), a text's own
difficulty (`text`) and how strongly each term counts, is a Gaussian process fitted to the reference runs: near them it
is sure, far from them it falls back on theory with a wide band. Scored in calibration/expected.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clm.explain.forecast import NORMAL_QUANTILE, Law
from clm.explain.scaling import (
    CHINCHILLA,
    critical_batch_tokens,
    effective_tokens,
    efficient_tokens,
    typical_unigram_entropy,
    usual_learning_rate,
)

# Coefficients of _features' first eight: what theory or experience says, and how far it may be off.
PRIOR_MEAN = np.array([CHINCHILLA.floor, 1.0, 1.0, -0.25, 0.6, -0.15, 0.0, 0.0])
PRIOR_SD = np.array([0.5, 0.5, 0.5, 0.15, 0.2, 0.15, 0.15, 0.3])
LINEAR = len(PRIOR_MEAN)
# Standard deviations in nats: of a place, a text, a run (seed, tuning, code), and one measured loss.
PLACE_SD, TEXT_SD, RUN_SD, NOISE_SD = 0.5, 0.4, 0.2, 0.03
PLACE_LENGTH = 1.5  # e-folds of parameters or tokens over which a place's level carries
TRAINING_SD = 0.15  # how far a training loss may lie from the validation loss, for what dropout and repetition do
MUON_TOKENS = 1 / 0.52  # what a token is worth under Muon: Liu et al. 2025 (arXiv 2502.16982), figure 3; of AdamW's
FARTHEST = 1.0  # PLACE_LENGTHs from the nearest reference: beyond, nothing is said


@dataclass(frozen=True)
class Situation:
    """What the expected loss depends on.

    `text` names a text whose difficulty may be known; `unigram` is in nats; `dataset_tokens` None where text is never
    repeated.
    """

    text: str | None
    non_embedding_parameters: int
    unigram: float
    block_size: int
    peak_rate: float
    tokens_per_step: int
    dataset_tokens: int | None
    law: Law
    muon: bool  # and not AdamW


@dataclass(frozen=True)
class Point:
    """A reference run's loss at a step."""

    run: str
    situation: Situation
    step: float
    loss: float


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


class Model:
    """The Gaussian process over reference points."""

    def __init__(self, points: Sequence[Point]) -> None:
        features = np.array([_features(point.situation, point.step, point.loss) for point in points])
        self._labelled = (features, [point.situation.text for point in points], [point.run for point in points])
        kernel = _kernel(self._labelled, self._labelled)
        self._inverse = np.linalg.inv(kernel + NOISE_SD**2 * np.eye(len(points)))
        self._weights = self._inverse @ (np.array([point.loss for point in points]) - features[:, :LINEAR] @ PRIOR_MEAN)

    def expect(self, situation: Situation, step: float, of_training: bool = False) -> Expectation:
        """The loss to expect of a run in this situation after `step` optimizer steps."""
        loss = 4.0
        for _ in range(4):  # the critical batch depends on the loss; this settles at once
            features = _features(situation, step, min(max(loss, 2.0), 8.0))[None]
            mine = (features, [situation.text], ["this run"])
            across = _kernel(mine, self._labelled)[0]
            loss = float(features[0, :LINEAR] @ PRIOR_MEAN + across @ self._weights)
        own = _kernel(mine, mine)[0, 0] + (situation.text is None) * TEXT_SD**2 + NOISE_SD**2
        variance = own + of_training * TRAINING_SD**2 - float(across @ self._inverse @ across)
        distances = np.linalg.norm((self._labelled[0] - features)[:, LINEAR:] / PLACE_LENGTH, axis=1)
        nearest = int(distances.argmin())
        return Expectation(loss, math.sqrt(variance), bool(distances[nearest] <= FARTHEST), self._labelled[2][nearest])


def _features(situation: Situation, step: float, loss: float) -> np.ndarray:
    """Eight that count linearly, and ln N and ln D, the place. `loss` sets the critical batch."""
    walked, sunk, _ = (float(term[0]) for term in situation.law.terms(np.array([step])))
    tokens = walked * situation.tokens_per_step * (MUON_TOKENS if situation.muon else 1.0)
    if situation.dataset_tokens:
        tokens = effective_tokens(situation.dataset_tokens, tokens)
    tokens = efficient_tokens(tokens, situation.tokens_per_step, critical_batch_tokens(loss))
    parameters = situation.non_embedding_parameters
    few_parameters, few_tokens = CHINCHILLA.terms(parameters, tokens)
    rate = float(np.clip(math.log(situation.peak_rate / usual_learning_rate(parameters)), -2, 1))
    difficulty = situation.unigram - typical_unigram_entropy(50_257)
    context = math.log(situation.block_size / 1024)
    linear = [1.0, few_parameters, few_tokens, sunk, difficulty, rate, context, float(situation.muon)]
    return np.array([*linear, math.log(parameters), math.log(tokens)])


def _kernel(left: tuple[np.ndarray, list, list], right: tuple[np.ndarray, list, list]) -> np.ndarray:
    """Covariance of the losses of two sets of points (features, texts, runs): shared coefficients, text, run, place."""
    (mine, my_texts, my_runs), (theirs, their_texts, their_runs) = left, right
    linear = (mine[:, :LINEAR] * PRIOR_SD**2) @ theirs[:, :LINEAR].T
    text = np.array([[a is not None and a == b for b in their_texts] for a in my_texts])
    run = np.array([[a == b for b in their_runs] for a in my_runs])
    squared = (((mine[:, None, LINEAR:] - theirs[None, :, LINEAR:]) / PLACE_LENGTH) ** 2).sum(axis=2)
    return linear + TEXT_SD**2 * text + RUN_SD**2 * run + PLACE_SD**2 * np.exp(-squared / 2)
