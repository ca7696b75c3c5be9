"""The sizes of chunks, by hand."""

import torch

from clm.model.chunks import Chunks, buffer_bytes, chunks, of_device

H100, T4 = 80 * 2**30, 15 * 2**30


def test_a_gpu_takes_whole_tiles_and_a_batch_of_4096_tokens_at_once():
    assert chunks("cuda", 4096, 32_000, H100) == Chunks(4096, 4096, 4096, 32_000, in_place=True)
    # 2^27 / 32,000 are 4,194 rows, and so 32 tiles. 8,192 tokens are two of these, 5,000 two of 2,560.
    assert chunks("cuda", 8192, 32_000, H100).rows == 4096
    assert chunks("cuda", 5000, 32_000, H100).rows == 2560
    assert chunks("cuda", 100, 32_000, H100).rows == 128


def test_a_vocabulary_is_made_a_multiple_of_64():
    # 2^27 / 50,304 are 2,668 rows: 20 tiles are 2,560, of which 4,096 tokens need two.
    assert chunks("cuda", 4096, 50_257, H100) == Chunks(2048, 2048, 2048, 50_304, in_place=True)
    assert [chunks("cuda", 4096, size, H100).width for size in (2048, 8000, 8001)] == [2048, 8000, 8064]


def test_a_small_card_has_smaller_chunks_and_a_small_vocabulary_not_too_long_ones():
    # A sixteenth of 15 GiB by 10 bytes: 100.7 million elements, 3,145 rows, 24 tiles.
    assert chunks("cuda", 3072, 32_000, T4).rows == 3072 and chunks("cuda", 3073, 32_000, T4).rows == 1664
    assert chunks("cuda", 4096, 32_000, 2**20).rows == 128
    assert chunks("cuda", 2**20, 300, H100).rows == 2**14


def test_on_a_cpu_matmuls_have_whole_tiles_and_probabilities_stay_in_the_cache():
    # 2^24 / 32,000 are 524 rows, and so 16 tiles of 32; 2^18 / 32,000 are 8. Of 2^26 four times 512 rows fit.
    assert chunks("cpu", 4096, 32_000) == Chunks(512, 8, 2048, 32_000, in_place=False)
    assert chunks("cpu", 2048, 2_048) == Chunks(8192, 128, 32_768, 2_048, in_place=False)
    assert chunks("cpu", 64, 2**20) == Chunks(32, 1, 64, 2**20, in_place=False)


def test_a_device_without_such_a_cache_takes_a_chunk_whole():
    assert chunks("mps", 4096, 32_000) == Chunks(512, 512, 2048, 32_000, in_place=False)


def test_the_memory_of_the_whole_card_counts(monkeypatch):
    class Card:
        total_memory = T4

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    assert of_device(torch.device("cuda", 0), 3073, 32_000).rows == 1664


def test_a_cpu_is_cut_as_one():
    assert of_device(torch.device("cpu"), 4096, 32_000) == chunks("cpu", 4096, 32_000)


def test_what_the_buffers_take():
    assert buffer_bytes("cuda", 4096, 32_000, True, H100) == 10 * 4096 * 32_000
    assert buffer_bytes("cuda", 8192, 32_000, False, H100) == 8 * 4096 * 32_000
    assert buffer_bytes("cuda", 1024, 50_257, True, H100) == 10 * 1024 * 50_304
    assert buffer_bytes("cpu", 4096, 32_000, True) == 12 * 2**18 + 2 * 2**26
    assert buffer_bytes("cpu", 16, 300, False) == 12 * 4800 + 4 * 4800
