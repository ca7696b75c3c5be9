"""This project's way from text to blocks; `python -m benchmarks.prepare_ours` measures one part of it once."""

import argparse
import json
import statistics
import time
from pathlib import Path

import awkward  # noqa: F401 (gigatoken imports it at its first use; imports aren't timed)
import gigatoken  # noqa: F401
import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from benchmarks.memory import peak_rss
from benchmarks.prepare_texts import paragraphs
from clm.data import tokenizer
from clm.data.blocks import Blocks
from clm.data.order import EpochOrder
from clm.data.sources import splits
from clm.data.store import token_store
from clm.data.store.token_store import TokenStore

BATCH = 32
BATCHES = 300


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["build", "open", "check"])
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("block_size", type=int)
    args = parser.parse_args()
    if args.part == "check":
        print(json.dumps(check(args.text, args.tokenizer, args.folder)))
        return
    loaded = tokenizer.load(str(args.tokenizer), str(args.folder))
    print(json.dumps({"build": build, "open": reopen}[args.part](args.text, loaded, args.folder, args.block_size)))


def _blocks(text: Path, loaded: PreTrainedTokenizerBase, folder: Path, block_size: int) -> Blocks:
    # A validation file keeps the whole text on the training side, as the standard way has it; nobody reads it here.
    other = Path(__file__)
    source = splits.open_sources(
        dataset_name=None,
        dataset_config_name=None,
        train_file=str(text),
        validation_file=str(other),
        document_separator="blank_line",
        cache_dir=str(folder),
    ).train
    store = token_store.open_or_build(folder / "store", source, loaded, {"documents": source.fingerprint()})
    return Blocks(store, block_size)


def build(text: Path, loaded: PreTrainedTokenizerBase, folder: Path, block_size: int) -> dict:
    """Text to blocks, no store there yet."""
    imported = peak_rss()
    started = time.perf_counter()
    blocks = _blocks(text, loaded, folder, block_size)
    seconds = time.perf_counter() - started
    peak = peak_rss()
    return {
        "seconds": seconds,
        "rss_after_imports": imported,
        "peak_rss": peak,
        "tokens": blocks.store.tokens,
        "documents": blocks.store.totals.documents,
        "unused": blocks.unused_tokens,
        "encoder": blocks.store.encoder,
        "bytes_on_disk": sum(file.stat().st_size for file in blocks.store.folder.rglob("*")),
    }


def reopen(text: Path, loaded: PreTrainedTokenizerBase, folder: Path, block_size: int) -> dict:
    """The store found again and its first batch; then shuffled batches with all pages in memory."""
    started = time.perf_counter()
    blocks = _blocks(text, loaded, folder, block_size)
    batches = iter(EpochOrder(len(blocks), BATCH, seed=42))
    blocks.__getitems__(next(batches))
    opened = time.perf_counter() - started
    blocks.store.span(0, blocks.store.tokens).max()  # reads every page
    times = []
    for _ in range(min(BATCHES, len(blocks) // BATCH - 1)):
        started = time.perf_counter()
        blocks.__getitems__(next(batches))
        times.append(time.perf_counter() - started)
    return {"first_batch": opened, "random_batch": statistics.median(times)}


def check(text: Path, tokenizer_folder: Path, folder: Path) -> dict:
    """The store against `tokenizers` itself: every document of the whole text, each followed by one end-of-text."""
    reference = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    reference.encode_special_tokens = True
    store = TokenStore(folder / "store")
    texts = paragraphs(text.read_bytes().decode().removeprefix("\ufeff"))
    tokens, differing = 0, 0
    for start in range(0, len(texts), 5_000):
        encodings = reference.encode_batch_fast(texts[start : start + 5_000], add_special_tokens=False)
        ids = np.concatenate([np.array([*encoding.ids, store.end_of_text]) for encoding in encodings])
        stored = store.span(tokens, min(store.tokens, tokens + len(ids)))
        differing += int((ids[: len(stored)] != stored).sum()) + len(ids) - len(stored)
        tokens += len(ids)
    return {"documents": len(texts), "tokens": tokens, "lost": tokens - store.tokens, "differing": differing}


if __name__ == "__main__":
    main()
