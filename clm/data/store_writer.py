"""Documents to the files of a token store, in one streaming pass and flat memory."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import xxhash
from transformers import PreTrainedTokenizerBase

from clm.data import encoder as encoders
from clm.data.documents import Batch, Source
from clm.data.words import count_words
from clm.errors import UserError
from clm.progress import ByteProgress

Item = TypeVar("Item")


@dataclass
class Totals:
    """What was counted while the text went by. `words` are whitespace words plus one for every line end."""

    tokens: int = 0
    documents: int = 0
    words: int = 0
    bytes: int = 0


def write_store(
    staging: Path, source: Source, tokenizer: PreTrainedTokenizerBase, fingerprint: dict, say: Callable[[str], None]
) -> None:
    """Encode all documents into the files of a store at `staging`, flushed to disk.

    By the fast encoder if there is one; by `tokenizers` where it is missing or gives other ids, and says so.

    Raises:
        UserError: the source's own errors, or no text.
        OSError: the disk is full.
    """
    encoder, why_slow = encoders.fastest(tokenizer)
    if why_slow:
        say(f"encoding with tokenizers, the slow way: {why_slow}")
    try:
        _write(staging, source, tokenizer, encoder, fingerprint)
    except encoders.Mismatch:
        say(f"{encoder.name} gave other ids than tokenizers on this text: encoding it again with tokenizers")
        _write(staging, source, tokenizer, encoders.ReferenceEncoder(tokenizer), fingerprint)


def _write(
    staging: Path, source: Source, tokenizer: PreTrainedTokenizerBase, encoder: encoders.Encoder, fingerprint: dict
) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    vocab_size, end_of_text = len(tokenizer), tokenizer.eos_token_id
    dtype = np.dtype(np.uint16 if vocab_size <= 65_536 else np.uint32)
    totals, counts = Totals(), np.zeros(vocab_size, np.int64)
    text_hash, token_hash = xxhash.xxh3_128(), xxhash.xxh3_128()
    with (
        (staging / "tokens.bin").open("wb") as tokens_file,
        (staging / "documents.bin").open("wb") as documents_file,
        ByteProgress(f"encoding {source.name}", source.size_bytes) as progress,
    ):
        for batch in _one_ahead(_counted(source, totals, text_hash)):
            ids, ends = encoder.encode(batch.texts)
            counts += np.bincount(ids, minlength=vocab_size)
            ids, ends = with_end_of_text(ids.astype(dtype), ends, batch.continues, end_of_text)
            documents_file.write(ends + totals.tokens)  # not tofile: on a full disk it loses data and says nothing
            tokens_file.write(ids)
            token_hash.update(ids)
            totals.tokens += len(ids)
            totals.documents += len(ends)
            progress.at(source.bytes_read)
        for file in (tokens_file, documents_file):
            file.flush()
            os.fsync(file.fileno())
    if totals.documents == 0:
        raise UserError(f"{source.origin}: holds no text")
    counts[end_of_text] += totals.documents
    (staging / "counts.bin").write_bytes(counts)
    about = {
        "fingerprint": fingerprint,
        "totals": asdict(totals),
        "dtype": dtype.name,
        "vocab_size": vocab_size,
        "end_of_text": end_of_text,
        "encoder": encoder.name,
        "text_xxh3_128": text_hash.hexdigest(),
        "tokens_xxh3_128": token_hash.hexdigest(),
    }
    with (staging / "store.json").open("w", encoding="utf-8") as file:
        json.dump(about, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _counted(source: Source, totals: Totals, text_hash: xxhash.xxh3_128) -> Iterator[Batch]:
    """The source's batches, their words and bytes counted and hashed on the way."""
    for batch in source.documents():
        text = "\n".join(batch.texts).encode()
        joints = len(batch.texts) - 1
        text_hash.update(text)
        totals.bytes += len(text) - joints
        totals.words += count_words(text) + text.count(b"\n") - joints
        yield batch


def hash_text(source: Source) -> str:
    """The hash that a store of this text would carry, by reading it all."""
    text_hash = xxhash.xxh3_128()
    for _ in _counted(source, Totals(), text_hash):
        pass
    return text_hash.hexdigest()


def _one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next one being made in a thread while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def with_end_of_text(
    ids: np.ndarray, ends: np.ndarray, continues: bool, end_of_text: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put an end-of-text after each document's ids; (all ids, where each finished document now ends).

    A document that goes on in the next batch gets its end-of-text there.
    """
    finished = ends[:-1] if continues else ends
    moved = finished + np.arange(1, len(finished) + 1)
    out = np.full(len(ids) + len(finished), end_of_text, dtype=ids.dtype)
    keep = np.ones(len(out), dtype=bool)
    keep[moved - 1] = False
    out[keep] = ids
    return out, moved
