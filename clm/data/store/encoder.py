"""Encodes text in bulk, by a faster encoder than the tokenizer's own that is checked against it.

`tokenizers` is the reference. gigatoken reads the same tokenizer.json and encodes many times faster. A part of every
text is encoded by both. Where their ids differ, the reference encodes the whole text.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from clm.data.sources.packed import NEVER, Batch
from clm.progress import Say

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedTokenizerBase

CHECKED_EVERY = 512 << 10  # bytes: one document in so many is compared with the reference
CHECKED_BYTES = 4_096  # of its beginning
CHECKED_AT_ONCE = 65_536  # bytes, so that the reference's threads are worth waking
RENEWED_EVERY = 1 << 30  # bytes: the fast encoder remembers every word that it saw, so a new one takes its place


class Mismatch(Exception):
    """The fast encoder gave other ids than the reference."""


class ReferenceEncoder:
    """`tokenizers` itself."""

    name = "tokenizers"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer.backend_tokenizer

    def encode(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """All ids, uint32, end to end, and where each document's ids end, int64 (documents,).

        A special token's name inside a document is encoded as the ordinary characters it is made of.
        """
        with _whole_and_plain(self._tokenizer) as tokenizer:
            encodings = tokenizer.encode_batch_fast(batch.texts, add_special_tokens=False)
        lengths = np.fromiter((len(e) for e in encodings), dtype=np.int64, count=len(encodings))
        ids = np.empty(int(lengths.sum()), dtype=np.uint32)
        ends = np.cumsum(lengths)
        for encoding, end, length in zip(encodings, ends, lengths, strict=True):
            ids[end - length : end] = encoding.ids
        return ids, ends

    def finish(self) -> None:
        """Nothing is left to do."""


@contextmanager
def _whole_and_plain(tokenizer: Tokenizer) -> Iterator[Tokenizer]:
    """Switch truncation, padding and special tokens off for a while."""
    plain, truncation, padding = tokenizer.encode_special_tokens, tokenizer.truncation, tokenizer.padding
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        yield tokenizer
    finally:
        tokenizer.encode_special_tokens = plain
        if truncation:
            tokenizer.enable_truncation(**truncation)
        if padding:
            tokenizer.enable_padding(**padding)


class FastEncoder:
    """gigatoken, checked against the reference."""

    name = "gigatoken"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._gigatoken = importlib.import_module("gigatoken")
        self._reference = ReferenceEncoder(tokenizer)
        self._unchecked: list[bytes] = []
        definition = json.loads(tokenizer.backend_tokenizer.to_str())
        # Without special tokens, so that a text which spells one out is only text.
        self._definition = json.dumps({**definition, "added_tokens": []})
        self._renew()

    def encode(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """As ReferenceEncoder.encode.

        Raises:
            Mismatch: the ids of the checked part differ from the reference's.
        """
        self._unchecked += _some_documents(batch)
        if sum(map(len, self._unchecked)) >= CHECKED_AT_ONCE:
            self.finish()
        if self._seen > RENEWED_EVERY:
            self._renew()
        self._seen += len(batch.data)
        return self._encode(batch)

    def finish(self) -> None:
        """Check the documents that are still unchecked. Call it before the ids are used.

        Raises:
            Mismatch: as encode.
        """
        sample, self._unchecked = self._unchecked, []
        if sample:
            batch = Batch(NEVER.join(sample), NEVER, False)
            for ours, theirs in zip(self._encode(batch), self._reference.encode(batch), strict=True):
                if not np.array_equal(ours, theirs):
                    raise Mismatch(f"{self.name} gave other ids than tokenizers")

    def _renew(self) -> None:
        self._tokenizer = self._gigatoken.Tokenizer.from_json(self._definition)
        self._seen = 0

    def _encode(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        documents = self._gigatoken.BytesSource(batch.data, separator=batch.separator)
        # In this thread: the other core is busy reading, and two threads here would cost more than they give.
        lists = self._tokenizer.encode_batch(documents, parallel=False).layout
        return np.asarray(lists.content.data), np.asarray(lists.offsets.data)[1:]


def _some_documents(batch: Batch) -> list[bytes]:
    """The beginning of one document in every CHECKED_EVERY bytes, the batch's first among them."""
    documents, at = [], 0
    while at < len(batch.data):
        document = batch.data[at : at + CHECKED_BYTES].split(batch.separator, 1)[0]
        documents.append(document.decode(errors="ignore").encode())  # whole characters
        found = batch.data.find(batch.separator, at + CHECKED_EVERY)
        at = found + len(batch.separator) if found >= 0 else len(batch.data)
    return documents


Encoder = FastEncoder | ReferenceEncoder


def fastest(tokenizer: PreTrainedTokenizerBase, say: Say) -> Encoder:
    """The fast encoder if it is installed and can read this tokenizer; else the reference, and a line says why."""
    try:
        return FastEncoder(tokenizer)
    except ImportError:
        say("encoding with tokenizers, the slow way: gigatoken is not installed")
    except Exception as error:  # whatever a tokenizer.json that it doesn't understand makes it raise
        say(f"encoding with tokenizers, the slow way: gigatoken can't read this tokenizer ({error})")
    return ReferenceEncoder(tokenizer)
