"""Documents to the files of one part of a token store, in one streaming pass and flat memory."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import xxhash

from clm.data.sources.documents import Notes, NoText, Source
from clm.data.sources.packed import NEVER, Batch
from clm.data.store import encoder as encoders
from clm.data.store.words import count_words_and_lines
from clm.errors import UserError
from clm.files import write_json
from clm.progress import ByteProgress, Say

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedTokenizerBase

MAX_DOCUMENT = 2**32 - 1  # tokens
TRIMMED_EVERY = 128 << 20  # bytes of text
# A text that spells out end-of-text was perhaps joined with it; inside a document it is only characters.
_SPELT_OUT = "spells out {}: if that is what ends its documents, make it the document_separator"
Item = TypeVar("Item")


@dataclass
class Totals:
    """What was counted in the text. `words` are whitespace words plus one for every line end."""

    tokens: int = 0
    documents: int = 0
    words: int = 0
    bytes: int = 0


def token_dtype(vocab_size: int) -> np.dtype:
    """Two bytes an id where they fit, else four."""
    return np.dtype(np.uint16 if vocab_size <= 65_536 else np.uint32)


def write_part(staging: Path, source: Source, tokenizer: PreTrainedTokenizerBase, show: bool, say: Say) -> None:
    """Encode a source's documents into the files of a part at `staging`, flushed to disk.

    The fast encoder does it. Where that is missing, or gives other ids, `tokenizers` does it and a line says so. A
    source without text gives an empty part.

    Args:
        staging: a folder of the caller's, replaced if it is there.
        show: whether to show progress.
    """
    reference = None
    while True:
        try:
            return _write(staging, source, tokenizer, reference, show, say)
        except encoders.Mismatch as error:
            say(f"{error} on this text: encoding it again with tokenizers")
            reference = encoders.ReferenceEncoder(tokenizer)


def _write(
    staging: Path,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    encoder: encoders.Encoder | None,
    show: bool,
    say: Say,
) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    vocab_size, end_of_text = len(tokenizer), tokenizer.eos_token_id
    totals, counts = Totals(), np.zeros(vocab_size, np.int64)
    text_hash, token_hash = xxhash.xxh3_128(), xxhash.xxh3_128()
    with (
        (staging / "tokens.bin").open("wb") as tokens_file,
        (staging / "lengths.bin").open("wb") as lengths_file,
        (staging / "counts.bin").open("wb") as counts_file,
        ByteProgress(f"encoding {source.name}", source.size_bytes, show) as progress,
    ):
        batches = _ahead(_counted(source, text_hash))  # reading begins while the encoder loads
        encoder = encoder or encoders.fastest(tokenizer, say)
        spelt_out = False  # the name of end-of-text
        begun = 0  # ids so far of a document that goes on
        trimmed = 0  # bytes of text when memory was last given back
        for batch, words, lines in batches:
            spelt_out = spelt_out or (totals.tokens == 0 and tokenizer.eos_token.encode() in batch.data)
            ids, ends = encoder.encode(batch)
            separators = len(ends) - 1
            totals.bytes += len(batch.data) - separators * len(batch.separator)
            totals.words += words + lines - separators * batch.separator.count(b"\n")
            ids = ids.astype(token_dtype(vocab_size))
            counts += np.bincount(ids, minlength=vocab_size)
            ids, ends = with_end_of_text(ids, ends, batch.continues, end_of_text)
            lengths = np.diff(ends, prepend=-begun)
            if len(lengths) and lengths.max() > MAX_DOCUMENT:
                raise UserError(
                    f"{source.origin}: a document of {lengths.max():,} tokens, {MAX_DOCUMENT:,} at most: set "
                    "document_separator"
                )
            begun = len(ids) - int(ends[-1]) if len(ends) else begun + len(ids)
            # Not ndarray.tofile: on a full disk it may lose data and say nothing.
            lengths_file.write(lengths.astype(np.uint32))
            tokens_file.write(ids)
            token_hash.update(ids)
            totals.tokens += len(ids)
            totals.documents += len(ends)
            if totals.bytes - trimmed > TRIMMED_EVERY:
                _trim_memory()
                trimmed = totals.bytes
            progress.at(source.bytes_read)
        encoder.finish()
        counts[end_of_text] += totals.documents
        counts_file.write(counts)
        for file in (tokens_file, lengths_file, counts_file):
            file.flush()
            os.fsync(file.fileno())
    hashes = {"text_xxh3_128": text_hash.hexdigest(), "tokens_xxh3_128": token_hash.hexdigest()}
    notes = Notes(source.notes.found)
    if spelt_out:
        notes.add(_SPELT_OUT.format(tokenizer.eos_token), source.origin)
    write_json(staging / "part.json", {**asdict(totals), "encoder": encoder.name, **hashes, "notes": notes.found})


def _trim_memory() -> None:
    """Give freed memory back. glibc keeps it in holes too small for our buffers, so the process would grow for ever."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _counted(source: Source, text_hash: xxhash.xxh3_128) -> Iterator[tuple[Batch, int, int]]:
    """The source's batches, each with the words and newlines of its data; `text_hash` takes all of them in."""
    try:
        for batch in source.documents():
            text_hash.update(batch.data)
            yield batch, *count_words_and_lines(batch.data.replace(NEVER, b" "))
    except NoText:
        return


def hash_text(source: Source) -> str:
    """The hash that a part of this text carries, by reading it all."""
    text_hash = xxhash.xxh3_128()
    for _ in _counted(source, text_hash):
        pass
    return text_hash.hexdigest()


def _ahead(items: Iterator[Item], count: int = 6) -> Iterator[Item]:
    """The same items. A thread makes up to `count` of them ahead, and begins now."""
    pool = ThreadPoolExecutor(1)
    coming = deque(pool.submit(next, items, None) for _ in range(count))

    def rest() -> Iterator[Item]:
        with pool:
            while (item := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, items, None))
                yield item

    return rest()


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
