"""The formulas against values worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from clm.explain import scaling
from clm.training.schedule import learning_rates


def test_chinchilla_at_a_million_parameters_and_tokens():
    # 10^6^0.34 = 10^2.04 = 109.65 and 10^6^0.28 = 10^1.68 = 47.863.
    assert scaling.CHINCHILLA.terms(1e6, 1e6) == pytest.approx((406.4 / 109.65, 410.7 / 47.863), abs=1e-3)


def test_repeated_text_is_worth_less_and_less():
    assert scaling.effective_tokens(100, 60) == 60
    assert scaling.effective_tokens(100, 200) == pytest.approx(100 + 1539 * (1 - math.exp(-1 / 15.39)))
    assert scaling.effective_tokens(100, 1e9) == pytest.approx(1639)


def test_the_share_of_tokens_seen():
    # 3 of 6 windows of 2 tokens each: a token is missed if both of its windows are, half times half.
    assert scaling.distinct_share(3, 6, 2) == 0.75
    assert scaling.distinct_share(3, 6, 1) == 0.5 and scaling.distinct_share(6, 6, 2) == 1


def test_a_batch_of_the_critical_size_is_worth_half_its_tokens():
    assert scaling.efficient_tokens(1000, batch=64, critical=64) == 500
    assert scaling.critical_batch_tokens(2.0) == pytest.approx(2e8 / 2**4.7619, rel=1e-4)


def test_the_entropy_of_counts():
    assert scaling.unigram_entropy(np.array([2, 2, 0, 4])) == pytest.approx(1.5 * math.log(2))


def test_a_constant_rate_adds_up_and_takes_nothing_off_and_a_drop_sinks_in():
    lr_sum, annealed = scaling.annealed(np.full(10, 3e-4), np.ones(10), memory=1)
    assert lr_sum[-1] == pytest.approx(10) and not annealed.any()
    rates = np.array([1.0] * 5 + [0.5] * 100)
    lr_sum, annealed = scaling.annealed(rates, np.ones(105), memory=2)
    assert lr_sum[-1] == pytest.approx(55) and annealed[4] == 0
    assert annealed[5] == pytest.approx(0.5 * (1 - math.exp(-0.5 / 2))) and annealed[-1] == pytest.approx(0.5)


def test_warmup_takes_nothing_off():
    _, annealed = scaling.annealed(np.linspace(0.1, 1, 10), np.ones(10), memory=1)
    assert not annealed.any()


def test_the_rates_are_those_that_the_trainer_sets():
    training = {"lr_scheduler_type": "linear", "learning_rate": 1e-3, "warmup_steps": 0.1}
    assert learning_rates(training, 100, [1, 10, 55, 100]) == pytest.approx([1e-4, 1e-3, 5e-4, 0])
    assert learning_rates({"lr_scheduler_type": "reduce_lr_on_plateau", "learning_rate": 1}, 9, [1]) is None


def test_the_unigram_model_by_hand():
    train = SimpleNamespace(counts=np.array([1, 3, 1]), end_of_text=0)
    validation = SimpleNamespace(counts=np.array([1, 1, 1]), end_of_text=0)
    # Counts 3 and 1, one added to each: 4/6 and 2/6; end-of-text plays no part.
    assert scaling.unigram_loss(train, validation) == pytest.approx(-(math.log(4 / 6) + math.log(2 / 6)) / 2)
