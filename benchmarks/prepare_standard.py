"""The standard way from text to blocks, as users run it; `python -m benchmarks.prepare_standard` measures it once."""

import argparse
import json
import time
from itertools import chain
from pathlib import Path

import datasets
import pyarrow.compute as pc
from transformers import AutoTokenizer

from benchmarks.memory import peak_rss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("tokenizer")
    parser.add_argument("cache_dir", type=Path)
    parser.add_argument("block_size", type=int)
    parser.add_argument("num_proc", type=int, help="0: None")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    block_size, num_proc = args.block_size, args.num_proc or None

    def tokenize(batch: dict[str, list]) -> dict[str, list]:
        return tokenizer(batch["text"])

    def group_texts(batch: dict[str, list]) -> dict[str, list]:
        joined = {name: list(chain.from_iterable(rows)) for name, rows in batch.items()}
        whole = len(joined["input_ids"]) // block_size * block_size
        blocks = {
            name: [values[start : start + block_size] for start in range(0, whole, block_size)]
            for name, values in joined.items()
        }
        blocks["labels"] = blocks["input_ids"].copy()
        return blocks

    imported = peak_rss()
    started = time.perf_counter()
    texts = datasets.load_dataset("text", data_files=args.text, cache_dir=str(args.cache_dir), split="train")
    tokens = texts.map(tokenize, batched=True, remove_columns=["text"], num_proc=num_proc)
    blocks = tokens.map(group_texts, batched=True, num_proc=num_proc)
    seconds = time.perf_counter() - started
    result = {
        "seconds": seconds,
        "rss_after_imports": imported,
        "peak_rss": peak_rss(),  # without what worker processes take
        "tokens": pc.sum(pc.list_value_length(tokens.data.column("input_ids"))).as_py(),
        "kept": len(blocks) * block_size,
        "bytes_on_disk": sum(file.stat().st_size for file in args.cache_dir.rglob("*") if file.is_file()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
