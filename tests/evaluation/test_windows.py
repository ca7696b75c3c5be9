"""Every token is scored in exactly one window, with the context that was asked for."""

import numpy as np
import pytest

from clm.evaluation.windows import batches, cut


def rows(windows):
    return list(
        zip(
            *(part.tolist() for part in (windows.document, windows.start, windows.length, windows.context)), strict=True
        )
    )


def test_the_windows_of_the_docstring():
    # Longest first: document, start, length, context.
    assert rows(cut(np.array([7]), block_size=4, stride=2)) == [(0, 0, 4, 0), (0, 2, 4, 2), (0, 4, 3, 2)]


def test_disjoint_blocks_longest_first():
    # Documents of 9, 1, 4, 5 and 0 tokens in blocks of 4; nothing is left to read in the last one.
    cut_up = rows(cut(np.array([9, 1, 4, 5, 0]), block_size=4, stride=4))
    assert cut_up == [
        (0, 0, 4, 0), (0, 4, 4, 0), (2, 0, 4, 0), (3, 0, 4, 0), (0, 8, 1, 0), (1, 0, 1, 0), (3, 4, 1, 0)
    ]  # fmt: skip


@pytest.mark.parametrize("block_size", [1, 2, 5, 8])
def test_each_token_is_scored_once_with_enough_context(block_size):
    lengths = np.arange(25)
    for stride in range(1, block_size + 1):
        scored = [np.zeros(n, int) for n in lengths]
        for document, start, length, context in rows(cut(lengths, block_size, stride)):
            assert 1 <= length <= block_size and start + length <= lengths[document] and context < length
            scored[document][start + context : start + length] += 1
            assert start == 0 or context >= block_size - stride
        assert all((times == 1).all() for times in scored)


def test_batches_hold_so_many_tokens_with_padding():
    windows = cut(np.array([4, 4, 3, 1, 1, 1, 1]), block_size=4, stride=4)
    assert batches(windows, batch_tokens=8) == [slice(0, 2), slice(2, 4), slice(4, 12)]
    assert batches(windows, batch_tokens=1)[0] == slice(0, 1)  # one window, however long
