"""The expected loss: near references the band is narrow, and far from them it is wide."""

import math
from dataclasses import replace

import pytest

from clm.explain import references
from clm.explain.expected import Situation
from clm.explain.forecast import Law
from clm.training.schedule import learning_rates

STEPS = 10_000
SCHEDULE = {"lr_scheduler_type": "cosine", "learning_rate": 6e-4, "warmup_steps": 500}
WEB = Situation(
    text="fineweb",
    non_embedding_parameters=85_000_000,
    unigram=None,
    bytes_per_token=None,
    vocab_size=50_257,
    block_size=1024,
    peak_rate=6e-4,
    tokens_per_step=524_288,
    dataset_tokens=None,
    law=Law(lambda at: learning_rates(SCHEDULE, STEPS, at), STEPS, math.inf),
    muon=False,
)


def half(situation: Situation) -> float:
    low, high = references.model().expect(situation, STEPS).band
    return (high - low) / 2


def test_124m_on_web_text_is_known_to_within_a_fifth_of_a_nat():
    expected = references.model().expect(WEB, STEPS)
    assert half(WEB) < 0.2 and expected.covered and expected.loss == pytest.approx(3.31, abs=0.1)


def test_an_unknown_text_widens_the_band_and_measuring_it_narrows_it_again():
    unknown = replace(WEB, text=None)
    measured = replace(unknown, unigram=7.5, bytes_per_token=4.2)
    assert half(WEB) < half(measured) < 0.75 * half(unknown)


def test_a_reference_text_counts_as_guessed_even_where_it_is_measured():
    # Its difficulty was learned beside the guess: a measured entropy on top would count it twice.
    model, measured = references.model(), replace(WEB, unigram=8.0, bytes_per_token=5.0)
    assert model.expect(measured, STEPS) == model.expect(WEB, STEPS)


def test_dropout_costs():
    model = references.model()
    assert model.expect(replace(WEB, dropout=0.1), STEPS).loss - model.expect(WEB, STEPS).loss > 0.03
