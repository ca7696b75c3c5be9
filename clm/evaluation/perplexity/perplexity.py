"""Corpus perplexity as an `evaluate` metric: `evaluate.load("clm/evaluation/perplexity")`.

It divides sums by sums, so that texts, batches and processes can be added up in any order and give the same numbers.
"""

import datasets
import evaluate

from clm.evaluation.scoring import Score

_DESCRIPTION = """Perplexity per token and per word, and bits per byte, of a whole text, from total negative
log-likelihoods and what they are divided by."""

_INPUTS = """
Args:
    nats (`list[float]`): total negative log-likelihood of each text, in nats.
    tokens (`list[int]`): predicted tokens of each text.
    words (`list[int]`): words of each text: whitespace words, and one for each line end.
    bytes (`list[int]`): UTF-8 bytes of each text.
Returns:
    eval_loss (nats per token), perplexity, nats_per_word, word_perplexity, nats_per_byte, bits_per_byte, eval_tokens,
    eval_words, eval_bytes.
"""


class Perplexity(evaluate.Metric):
    """Sums over texts, then one division: never a mean of means."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "nats": datasets.Value("float64"),
                    "tokens": datasets.Value("int64"),
                    "words": datasets.Value("int64"),
                    "bytes": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, nats: list[float], tokens: list[int], words: list[int], bytes: list[int]) -> dict:
        return Score(sum(nats), sum(tokens), sum(words), sum(bytes)).metrics()
