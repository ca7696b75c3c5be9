"""What theory says of a loss: pure functions, each with its source. Losses in nats a token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clm.data.store.token_store import TokenStore

REPEAT_HALF_LIFE = 15.39  # R_D* of Muennighoff et al. 2023: repetitions after which new ones are worth 1/e
# The same of models of up to 2M non-embedding parameters, between them and 25M it goes over into the other: of 4 to 15,
# what runs of many epochs fit best, of models below 1M.
SMALL_HALF_LIFE = 6.0
TOKENS_PER_PARAMETER = 20.0  # the compute-optimal ratio, Hoffmann et al. 2022 (arXiv 2203.15556), table 3


@dataclass(frozen=True)
class LossLaw:
    """loss = floor + parameters_scale / N^parameters_power + tokens_scale / D^tokens_power."""

    floor: float
    parameters_scale: float
    parameters_power: float
    tokens_scale: float
    tokens_power: float

    def terms(self, parameters: float, tokens: float) -> tuple[float, float]:
        """What too few parameters and too few tokens each cost, in nats."""
        return (
            self.parameters_scale / parameters**self.parameters_power,
            self.tokens_scale / tokens**self.tokens_power,
        )


CHINCHILLA = LossLaw(1.69, 406.4, 0.34, 410.7, 0.28)  # Hoffmann et al. 2022 (arXiv 2203.15556), approach 3


def effective_tokens(unique: float, seen: float, half_life: float = REPEAT_HALF_LIFE) -> float:
    """What `seen` tokens of a text of `unique` ones are worth in different tokens.

    D' = U + U R* (1 - exp(-R / R*)) with R repetitions after the first pass, and R* the `half_life`: Muennighoff et al.
    2023 (arXiv 2305.16264), equation 5.
    """
    if seen <= unique:
        return float(seen)
    repetitions = seen / unique - 1
    return unique * (1 + half_life * (1 - math.exp(-repetitions / half_life)))


@dataclass(frozen=True)
class Overfitting:
    """What repeating a text costs beside what its tokens are worth, in nats.

    scale r / (1 + r / saturation) (E - 1)^epochs_power exp(-decay W - dropout P - adamw A)
        + decay_cost W ln E / (1 + r)

    r is the non-embedding parameters for each token of the text, E its epochs counted at the peak rate, W a hundredth
    of the weight decay times the steps of an epoch, P the dropout and A 1 under AdamW, 0 under Muon. The first part is
    learning by heart: a model that can hold the text gains little by being larger, hence `saturation`. The second is
    what weight decay costs in learning, the less the more weights there are; what dropout costs is a term of the
    expected loss (expected.py). The learning rate isn't in W: at three rates the same weight decay is best. After
    Lovelace et al. 2026 (arXiv 2605.01640), who add a penalty to the loss, and Kim et al. 2025 (arXiv 2509.14786),
    whose weight decay moves the best epochs; the form is ours, and chosen by left-out runs (calibration/repetition.py).
    """

    scale: float
    saturation: float
    epochs_power: float
    decay: float
    dropout: float
    adamw: float
    decay_cost: float

    def penalty(
        self,
        parameters_per_token: float | np.ndarray,
        epochs: float | np.ndarray,
        decayed: float | np.ndarray,
        dropout: float | np.ndarray,
        muon: bool | np.ndarray,
    ) -> float | np.ndarray:
        """In nats; `decayed` is W. Nothing within the first epoch."""
        repeated = np.maximum(epochs, 1.0)
        lessened = self.decay * decayed + self.dropout * dropout + self.adamw * (1 - muon)
        size = parameters_per_token / (1 + parameters_per_token / self.saturation)
        by_heart = self.scale * size * (repeated - 1) ** self.epochs_power * np.exp(-lessened)
        return by_heart + self.decay_cost * decayed * np.log(repeated) / (1 + parameters_per_token)


# Fitted by `python -m calibration.repetition` to models of 12,288 to 786,432 non-embedding parameters; larger ones pay
# nothing. Beyond these epochs and parameters for each token of the text it is an extrapolation.
OVERFITTING = Overfitting(
    scale=0.0026,
    saturation=10.85,
    epochs_power=1.924,
    decay=7.43,
    dropout=14.12,
    adamw=1.895,
    decay_cost=0.059,
)
OVERFITTING_LIMIT = 1e6
REPEATED_EPOCHS, REPEATED_RATIOS = 64.0, (0.6, 39.0)


def distinct_share(samples_seen: float, samples: int, samples_holding_a_token: int) -> float:
    """Share of a text's tokens that `samples_seen` of `samples`, drawn without repetition, have shown at least once.

    A token lies in 1 block, or in block_size windows; it is missed where all of those are among the unseen, which has
    probability (1 - seen/samples)^holding, up to terms of the order of 1/samples.
    """
    if samples_seen >= samples:
        return 1.0
    return 1 - (1 - samples_seen / samples) ** samples_holding_a_token


def critical_batch_tokens(loss: float) -> float:
    """The batch, in tokens, beyond which more of it saves few steps.

    B* / L^(1/alpha_B) with B* = 2e8 and alpha_B = 0.21: Kaplan et al. 2020 (arXiv 2001.08361), equation 1.4. Fitted to
    losses of 2 to 4 on web text with 50,257 ids.
    """
    return 2e8 / loss ** (1 / 0.21)


def efficient_tokens(tokens: float, batch: float, critical: float) -> float:
    """What `tokens` in batches of `batch` tokens are worth in tokens of small batches.

    E / (1 + B / B_crit): McCandlish et al. 2018 (arXiv 1812.06162), equations 2.11 and 2.12 solved for the examples.
    """
    return tokens / (1 + batch / critical)


def annealed(
    learning_rates: np.ndarray, spacing: np.ndarray, memory: float, power: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of a run's learning rates, and how far their fall has taken effect, at every point of a grid.

    The two quantities of Tissue et al. 2024 (arXiv 2408.11029), here without units: S1, the sum of learning rates so
    far, in steps at the peak rate; and the share of the peak rate that was taken off and has taken effect, which takes
    `memory` steps at the peak rate (their momentum counts steps whatever the rate; Luo et al. 2025, arXiv 2503.12811,
    let the effect of a decay grow with the learning rates that follow it, as here). Warmup takes nothing off.

    Args:
        learning_rates: (points,) the rate at each point, of a grid that starts at step 1.
        spacing: (points,) the steps that each point stands for.
        memory: in steps at the peak rate.
        power: of the relative rate, whose falls are counted; theirs is 1.
    """
    relative = learning_rates / learning_rates.max()
    lr_sum = np.cumsum(relative * spacing)
    changes = np.diff(relative**power)
    after_peak = np.arange(1, len(relative)) > int(relative.argmax())
    falls = np.maximum(0.0, -changes) - np.where(after_peak, np.maximum(0.0, changes), 0.0)
    lr_annealed = np.zeros(len(relative))
    waiting = 0.0  # taken off, but not yet in effect
    for i in range(1, len(relative)):
        waiting = (waiting + falls[i - 1]) * math.exp(-(lr_sum[i] - lr_sum[i - 1]) / memory)
        lr_annealed[i] = falls[:i].sum() - waiting
    return lr_sum, lr_annealed


def unigram_entropy(counts: np.ndarray) -> float:
    """Entropy of a text's tokens in nats: what a model scores that knows only how often each occurs in that text."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def unigram_loss(train: TokenStore, validation: TokenStore) -> float:
    """What a model scores that knows only how often each id occurs in training, in nats a token of validation.

    Add-one smoothing; end-of-text, which is never a scored target, is left out on both sides. A trained model must be
    well below it.
    """
    seen, scored = train.counts + 1.0, validation.counts.astype(np.float64)
    seen[train.end_of_text] = scored[train.end_of_text] = 0.0
    present = scored > 0
    return float(-(scored[present] * np.log(seen[present] / seen.sum())).sum() / scored.sum())


def typical_unigram_entropy(vocab_size: int) -> float:
    """A guess at a text's unigram entropy where it isn't measured: 5.85 nats at 1,024 ids, and 0.42 more an e-fold.

    Of the reference runs' byte-level BPEs on English, 1,024 to 4,096 ids; beyond those it is extrapolated.
    """
    return 5.85 + 0.42 * math.log(vocab_size / 1024)


def typical_bytes_per_token(vocab_size: int) -> float:
    """A guess at a text's bytes a token where they aren't measured: 2.4 at 1,024 ids, and 0.46 more an e-fold.

    Of the reference runs' byte-level BPEs on English, 1,024 to 4,096 ids; beyond those it is extrapolated.
    """
    return 2.41 + 0.46 * math.log(vocab_size / 1024)


def usual_learning_rate(parameters: float) -> float:
    """A peak rate for AdamW that suits a model of so many parameters: Kaplan et al. 2020, equation D.1 (their rule of
    thumb, for non-embedding parameters).
    """
    return max(1e-5, 0.003239 - 0.0001395 * math.log(parameters))  # beyond ten billion it would be negative
