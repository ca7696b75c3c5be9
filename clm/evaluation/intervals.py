"""How far a score may be chance: bootstrap intervals over documents."""

import math

import numpy as np

from clm.data.store.words import has_words
from clm.evaluation.scoring import exp

RESAMPLES = 1000
SEED = 0


def bootstrap(nats: np.ndarray, tokens: np.ndarray, words: np.ndarray, bytes: np.ndarray) -> dict[str, list[float]]:
    """The 95 % percentile interval of each metric, [low, high]; empty where there is only one document.

    Documents are drawn with replacement, since the tokens of one depend on each other; each draw is scored as a whole
    text is, sums divided by sums (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). The same
    sums give the same intervals.

    Args:
        nats, tokens, words, bytes: (documents,), of each document.
    """
    if len(nats) < 2:
        return {}
    table, chance = np.stack([nats, tokens, words, bytes], axis=1).astype(np.float64), np.random.default_rng(SEED)
    drawn = np.empty((RESAMPLES, 4))
    for resample in range(RESAMPLES):
        documents = chance.integers(0, len(nats), len(nats))
        drawn[resample] = np.bincount(documents, minlength=len(nats)) @ table
    low_high = np.percentile(drawn[:, :1] / np.maximum(1, drawn[:, 1:]), [2.5, 97.5], axis=0)
    per_token, per_word, per_byte = low_high.T.tolist()
    of_words = {"nats_per_word": per_word, "word_perplexity": [exp(nats) for nats in per_word]}
    return {
        "eval_loss": per_token,
        "perplexity": [exp(nats) for nats in per_token],
        **(of_words if has_words(int(words.sum()), int(bytes.sum())) else {}),
        "nats_per_byte": per_byte,
        "bits_per_byte": [nats / math.log(2) for nats in per_byte],
    }
