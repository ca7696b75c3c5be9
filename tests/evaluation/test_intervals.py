"""Intervals hold what they should, are the same every time, and are none for one document."""

import numpy as np
import pytest

from clm.evaluation.intervals import bootstrap


def test_documents_that_are_alike_leave_nothing_to_chance():
    same = bootstrap(np.full(5, 20.0), np.full(5, 10), np.full(5, 4), np.full(5, 50))
    assert (
        same["eval_loss"] == [2.0, 2.0] and same["nats_per_word"] == [5.0, 5.0] and same["nats_per_byte"] == [0.4, 0.4]
    )


def test_the_interval_of_many_documents_is_the_normal_one():
    chance = np.random.default_rng(1)
    nats = chance.normal(200, 20, size=400)  # 100 tokens each: a mean of 2, a standard error of 0.2 / 20
    low, high = bootstrap(nats, np.full(400, 100), np.full(400, 80), np.full(400, 400))["eval_loss"]
    mean = nats.mean() / 100
    assert mean - low == pytest.approx(1.96 * 0.01, rel=0.15) and high - mean == pytest.approx(1.96 * 0.01, rel=0.15)
    assert (low, high) == tuple(bootstrap(nats, np.full(400, 100), np.full(400, 80), np.full(400, 400))["eval_loss"])


def test_a_long_document_counts_for_its_length():
    # 1,000 tokens at 1 nat and two of 10 tokens at 5 nats: no draw with the long one comes near a mean of means.
    low, high = bootstrap(np.array([1000.0, 50, 50]), np.array([1000, 10, 10]), *[np.array([1, 1, 1])] * 2)["eval_loss"]
    assert low == 1.0 and high == 5.0  # 5 where the long one isn't drawn at all, in 8 of 27


def test_one_document_has_no_interval():
    assert bootstrap(np.array([3.0]), np.array([2]), np.array([1]), np.array([9])) == {}
