"""The order of samples is a permutation, the same from anywhere, and splits over ranks without a gap."""

import numpy as np
import pytest

from clm.data.order import PADDING, EpochOrder, permute, shift_of


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_every_sample_comes_once_an_epoch(size):
    assert sorted(permute(np.arange(size), size, seed=7, epoch=0).tolist()) == list(range(size))


def test_the_order_depends_on_seed_and_epoch_and_looks_shuffled():
    orders = [permute(np.arange(1000), 1000, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (-1, 0))]
    for number, order in enumerate(orders):
        for other in orders[:number]:
            assert (order == other).sum() < 20  # about one of a thousand agrees by chance
    assert abs(np.corrcoef(np.arange(1000), orders[0])[0, 1]) < 0.1
    assert (np.diff(orders[0]) == 1).sum() < 10


def test_the_first_position_is_spread_evenly_over_the_samples():
    first = [int(permute(np.array([0]), 10, seed=3, epoch=epoch)[0]) for epoch in range(2000)]
    counts = np.bincount(first, minlength=10)
    assert counts.min() > 140 and counts.max() < 260  # 200 expected, standard deviation 13


def test_any_position_of_a_huge_epoch_is_worked_out_alone():
    size = 116_943_961
    positions = np.array([0, 1, size - 1])
    together = permute(positions, size, seed=42, epoch=3)
    assert [int(permute(np.array([p]), size, 42, 3)[0]) for p in positions] == together.tolist()
    assert ((together >= 0) & (together < size)).all() and len(set(together.tolist())) == 3


def test_the_order_is_the_same_on_every_machine_and_version():
    assert permute(np.arange(8), 8, seed=42, epoch=0).tolist() == [3, 1, 4, 0, 2, 6, 5, 7]


def test_each_epochs_shift_halves_the_widest_gap_that_is_left():
    assert [shift_of(epoch, 8) for epoch in range(9)] == [0, 4, 2, 6, 1, 5, 3, 7, 0]
    assert [shift_of(epoch, 100) for epoch in range(5)] == [0, 50, 25, 75, 12]
    assert {shift_of(epoch, 1) for epoch in range(9)} == {0}


def test_an_epochs_samples_are_all_shifted_alike_and_in_the_same_order():
    fixed, shifted = EpochOrder(9, 4, seed=1), EpochOrder(9, 4, seed=1, shifts=8)
    for epoch, shift in ((0, 0), (1, 4), (2, 2)):
        fixed.start_at(epoch)
        shifted.start_at(epoch, first_batch=1)
        for ours, theirs in zip(shifted, list(fixed)[1:], strict=True):
            assert np.array_equal(ours, np.where(theirs == PADDING, PADDING, theirs + 9 * shift))


def test_two_ranks_see_what_one_rank_sees_in_two_micro_batches():
    one = list(EpochOrder(size=22, batch_size=4, seed=1))
    ranks = [list(EpochOrder(22, 4, 1, rank, 2)) for rank in range(2)]
    assert [len(one), len(ranks[0]), len(ranks[1])] == [6, 3, 3]
    assert np.array_equal(np.concatenate(one), np.concatenate([b for pair in zip(*ranks, strict=True) for b in pair]))


def test_the_last_batch_is_filled_with_padding_on_every_rank():
    ranks = [list(EpochOrder(size=9, batch_size=4, seed=1, rank=rank, world_size=2)) for rank in range(2)]
    assert (ranks[0][-1] == PADDING).sum() == 3 and (ranks[1][-1] == PADDING).all()
    real = np.concatenate([batch for rank in ranks for batch in rank])
    assert sorted(real[real != PADDING].tolist()) == list(range(9))


def test_starting_in_the_middle_gives_the_rest_of_the_epoch():
    order = EpochOrder(size=50, batch_size=4, seed=9)
    order.start_at(epoch=2)
    whole = list(order)
    order.start_at(epoch=2, first_batch=7)
    assert np.array_equal(whole[7:], list(order)) and len(order) == len(whole)
