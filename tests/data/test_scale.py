"""A hundred thousand million tokens: addressable to the last, and no dearer to open or to resume than a few million.

Work is counted, not timed: the Python and C functions that are called, the bytes that are read, and the pages of the
token files that are touched.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clm.data.blocks import Blocks
from clm.data.description import _describe_split
from clm.data.order import EpochOrder, permute
from clm.data.steps import tokens_trained
from clm.data.store.token_store import TokenStore
from clm.explain.scaling import unigram_entropy

PARTS, VOCAB = 100, 300
TOKENS = 100_000_000_000


def sparse_store(folder: Path, tokens: int) -> TokenStore:
    """A store of `tokens` zeros in PARTS parts, which take no room on the disk, but for 1, 2, 3 … around every seam."""
    size = tokens // PARTS
    for number in range(PARTS):
        part = folder / f"part-{number:05d}"
        part.mkdir(parents=True)
        with (part / "tokens.bin").open("wb") as file:
            file.truncate(2 * size)
            file.write(np.arange(101, 201, dtype=np.uint16).tobytes())
            file.seek(2 * (size - 100))
            file.write(np.arange(1, 101, dtype=np.uint16).tobytes())
        with (part / "lengths.bin").open("wb") as file:
            file.truncate(4 * (size // 1000))  # a document for a thousand tokens
        (part / "counts.bin").write_bytes(bytes(8 * VOCAB))
    (folder / "counts.bin").write_bytes(np.full(VOCAB, tokens // VOCAB, np.int64).tobytes())
    counted = {"tokens": size, "documents": size // 1000, "words": size, "bytes": 4 * size, "encoder": "test"}
    about = {"fingerprint": {}, "dtype": "uint16", "vocab_size": VOCAB, "end_of_text": 0, "parts": [counted] * PARTS}
    (folder / "store.json").write_text(json.dumps(about | {"documents_by_length": [[512, 1023, tokens // 1000]]}))
    return TokenStore(folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    try:
        store = sparse_store(folder, TOKENS)
    except OSError:
        pytest.skip("this file system has no sparse files of 2 GB")
    assert sum(path.stat().st_blocks * 512 for path in folder.rglob("*")) < 4 << 20
    return store


def test_every_token_is_addressable(large):
    assert large.tokens == TOKENS and large._starts.dtype == np.int64
    seam = list(range(1, 101)) + list(range(101, 201))
    for number in (1, 43, 99):  # beyond 2**32, in tokens and in bytes
        start = number * TOKENS // PARTS
        assert large.span(start - 100, start + 100).tolist() == seam
        assert large.gather(np.array([start - 100, start + 100]), 200).tolist() == [seam, [0] * 200]
    assert large.span(TOKENS - 1, TOKENS).tolist() == [100]


def test_every_sample_is_addressable(large):
    blocks, windows = Blocks(large, 1024), Blocks(large, 1024, "windows")
    assert len(blocks) == 97_656_249 and len(windows) == 99_999_998_976
    assert windows[len(windows) - 1]["labels"][-3:].tolist() == [98, 99, 100]
    positions = np.arange(len(windows) - 100_000, len(windows))
    samples = permute(positions, len(windows), seed=1, epoch=2)
    assert len(set(samples.tolist())) == 100_000 and samples.min() >= 0 and samples.max() < len(windows)
    assert samples.max() > 2**36  # and not only among the first
    assert tokens_trained(10**6, len(windows), 512, 1024) == 10**6 * 512 * 1024


def calls_of(work: Callable[[], object]) -> int:
    """How many Python and C functions `work` calls."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def bytes_read() -> int:
    """By this process, by system calls."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


def touched(folder: Path) -> int:
    """Bytes of the mapped files under `folder` whose pages this process has touched."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counts = str(folder) in line
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def first_batch(folder: Path, step: int) -> np.ndarray:
    """What a start does with the data: open the store, tell its figures, and get the batch of a step."""
    store = TokenStore(folder)
    _describe_split(store)
    unigram_entropy(store.counts)
    windows = Blocks(store, 1024, "windows")
    order = EpochOrder(len(windows), 8, seed=1, rank=3, world_size=64)
    order.start_at(epoch=0, first_batch=step)
    return windows.__getitems__(next(iter(order)))["input_ids"]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_neither_the_corpus_nor_the_step_makes_a_start_longer(large, tmp_path):
    small = sparse_store(tmp_path, 10_000_000)
    cases = [(small.folder, 0), (large.folder, 0), (large.folder, 150_000_000)]
    first_batch(*cases[0])  # what is imported and compiled once
    work = []
    for folder, step in cases:
        before = bytes_read()
        calls = calls_of(lambda folder=folder, step=step: first_batch(folder, step))
        work.append((calls, bytes_read() - before))
    assert max(calls for calls, _ in work) < 1.1 * min(calls for calls, _ in work), work
    assert max(read for _, read in work) < 100_000, work  # store.json and counts.bin


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_a_batch_touches_its_own_pages_only(large):
    store = TokenStore(large.folder)
    windows = Blocks(store, 1024, "windows")
    before = touched(large.folder)
    windows.__getitems__(permute(np.arange(64), len(windows), seed=5, epoch=0))
    # A page fault brings 64 KiB along; a sample lies on two pages, and may be cut by a seam.
    assert 0 < touched(large.folder) - before <= 64 * 2 * (64 << 10)
