"""Which tokens meet in a sample, and the arithmetic of epochs."""

import json

import numpy as np
import pytest

from clm.data.blocks import IGNORED, Blocks
from clm.data.order import PADDING, EpochOrder, shift_of
from clm.data.steps import EpochSteps, count_samples, count_steps, tokens_trained
from clm.data.store.token_store import TokenStore
from clm.errors import UserError


def store_of(folder, *parts: int) -> TokenStore:
    """A store whose ids are 0, 1, 2, … over so many parts of so many ids."""
    first = 0
    for number, tokens in enumerate(parts):
        part = folder / f"part-{number:05d}"
        part.mkdir()
        (part / "tokens.bin").write_bytes(np.arange(first, first + tokens, dtype=np.uint16).tobytes())
        first += tokens
    about = {"fingerprint": {}, "dtype": "uint16", "vocab_size": 100, "end_of_text": 0, "documents_by_length": []}
    counts = {"documents": 1, "words": 0, "bytes": 0, "encoder": "test"}
    (folder / "store.json").write_text(json.dumps({**about, "parts": [{"tokens": n, **counts} for n in parts]}))
    return TokenStore(folder)


def test_blocks_lie_end_to_end_and_labels_are_the_next_tokens(tmp_path):
    batch = Blocks(store_of(tmp_path, 9), block_size=4).__getitems__([0, 1])
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batch["labels"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert str(batch["input_ids"].dtype) == "torch.int64"


@pytest.mark.parametrize(("tokens", "samples", "unused"), [(5, 1, 0), (8, 1, 3), (9, 2, 0), (10, 2, 1)])
def test_every_token_but_the_first_and_the_counted_tail_is_a_label_once(tmp_path, tokens, samples, unused):
    blocks = Blocks(store_of(tmp_path, tokens), block_size=4)
    labels = blocks.__getitems__(np.arange(len(blocks)))["labels"].ravel().tolist()
    assert len(blocks) == samples and blocks.unused_tokens == unused
    assert labels == list(range(1, tokens - unused))


def labels_of_epoch(blocks: Blocks, epoch: int) -> list[int]:
    """In the order of the text."""
    order = EpochOrder(len(blocks), batch_size=2, seed=1, shifts=blocks.shifts)
    order.start_at(epoch)
    labels = np.concatenate([blocks.__getitems__(samples)["labels"].numpy().ravel() for samples in order])
    return sorted(labels[labels != IGNORED].tolist())


@pytest.mark.parametrize(
    ("tokens", "labels"),
    [
        (12, [*range(3, 11)]),  # begin at 2 and 6, and the tail of three is now one
        (10, [3, 4, 5, 6, 6, 7, 8, 9]),  # begin at 2 and, the last that fits, 5
        (9, [3, 4, 5, 5, 6, 6, 7, 8]),
        (5, [1, 2, 3, 4]),
    ],
)
def test_the_second_epochs_blocks_begin_half_a_block_on_and_end_with_the_text(tmp_path, tokens, labels):
    blocks = Blocks(store_of(tmp_path, tokens), block_size=4)
    assert labels_of_epoch(blocks, 1) == labels
    assert labels_of_epoch(blocks, 0) == [*range(1, tokens - blocks.unused_tokens)]


@pytest.mark.parametrize("tokens", range(41, 50))
def test_every_epoch_has_as_many_labels_and_less_than_a_block_of_them_twice_or_not_at_all(tmp_path, tokens):
    blocks = Blocks(store_of(tmp_path, tokens), block_size=8)
    assert len(blocks) == (6 if tokens == 49 else 5)
    for epoch in range(8):
        shift, labels = shift_of(epoch, 8), labels_of_epoch(blocks, epoch)
        assert len(labels) == len(blocks) * 8 and max(labels) < tokens
        twice = len(labels) - len(set(labels))
        assert twice == max(0, shift - blocks.unused_tokens) < 8
        assert min(labels) == shift + 1


def test_blocks_and_labels_of_a_shifted_sample_are_consecutive_text(tmp_path):
    blocks = Blocks(store_of(tmp_path, 9), block_size=4)
    batch = blocks.__getitems__([0, 2 * 2 + 0, 2 * 2 + 1, PADDING])  # block 0, then both with a shift of 2
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [0] * 4]
    assert batch["labels"].tolist() == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [IGNORED] * 4]


@pytest.mark.parametrize("how", [{"sampling": "windows"}, {"shifted": False}], ids=str)
def test_windows_and_blocks_that_are_not_to_shift_lie_in_every_epoch_as_in_the_first(tmp_path, how):
    blocks = Blocks(store_of(tmp_path, 30), block_size=4, **how)
    assert labels_of_epoch(blocks, 3) == labels_of_epoch(blocks, 0)


def test_windows_start_at_every_token(tmp_path):
    windows = Blocks(store_of(tmp_path, 9), block_size=4, sampling="windows")
    assert len(windows) == 5 and windows.unused_tokens == 0
    assert windows[4]["input_ids"].tolist() == [4, 5, 6, 7] and windows[4]["labels"].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("parts", [(9,), (4, 5), (1, 1, 3, 4), (8, 0, 1)])
def test_samples_that_cross_from_part_to_part_are_whole(tmp_path, parts):
    windows = Blocks(store_of(tmp_path, *parts), block_size=4, sampling="windows")
    batch = windows.__getitems__(np.arange(5))
    assert batch["input_ids"].tolist() == [[i, i + 1, i + 2, i + 3] for i in range(5)]


def test_padding_has_no_labels(tmp_path):
    batch = Blocks(store_of(tmp_path, 9), block_size=4).__getitems__([1, PADDING])
    assert batch["labels"].tolist() == [[5, 6, 7, 8], [IGNORED] * 4]


def test_a_text_shorter_than_a_block_is_refused(tmp_path):
    with pytest.raises(UserError, match="4 tokens, too few for one block of 4"):
        Blocks(store_of(tmp_path, 4), block_size=4)


def test_wikitext_103s_epoch():
    tokens, block_size, sequences = 116_944_985, 1024, 4 * 8
    windows = count_samples(tokens, block_size, "windows")
    blocks = count_samples(tokens, block_size, "blocks")
    assert (windows, blocks) == (116_943_961, 114_204)
    assert count_steps(windows, sequences) == EpochSteps(full=3_654_498, short=True)
    assert count_steps(blocks, sequences) == EpochSteps(full=3_568, short=True)
    assert count_steps(blocks, sequences).total == 3_569


def test_tokens_trained_counts_short_steps_as_they_are():
    # 10 samples, 4 a step: steps of 4, 4 and 2 samples, then the next epoch.
    assert [tokens_trained(step, 10, 4, block_size=8) // 8 for step in range(5)] == [0, 4, 8, 10, 14]
