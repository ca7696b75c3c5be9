"""Bulk encoding: the tokenizer's own ids, from a faster encoder wherever it proves itself equal.

`tokenizers` is the reference. fastokens reads the same tokenizer.json and encodes some fifty times faster; on a share
of every text it has to give the reference's very ids, or the whole text is encoded by the reference.
"""

import importlib
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

CHECKED_SHARE = 512  # one text in so many is compared with the reference
CHECKED_CHARACTERS = 16_384  # of its beginning


class Mismatch(Exception):
    """The fast encoder gave other ids than the reference."""


class ReferenceEncoder:
    """`tokenizers` itself."""

    name = "tokenizers"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        # A copy: the flag below must not leak into the tokenizer that users load.
        self._tokenizer = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All ids, uint32, end to end, and where each text's ids end, int64 (len(texts),).

        A special token's name inside a text is encoded as the ordinary characters it is made of.
        """
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        lengths = np.fromiter((len(e) for e in encodings), dtype=np.int64, count=len(encodings))
        ids = np.empty(int(lengths.sum()), dtype=np.uint32)
        ends = np.cumsum(lengths)
        for encoding, end, length in zip(encodings, ends, lengths, strict=True):
            ids[end - length : end] = encoding.ids
        return ids, ends


class FastEncoder:
    """fastokens, watched over by the reference."""

    name = "fastokens"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        fastokens = importlib.import_module("fastokens")
        self._reference = ReferenceEncoder(tokenizer)
        self._tokenizer = fastokens.Tokenizer.from_json_str(tokenizer.backend_tokenizer.to_str())

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As ReferenceEncoder.encode.

        Raises:
            Mismatch: the ids of the checked share differ from the reference's.
        """
        self._check([text[:CHECKED_CHARACTERS] for text in texts[::CHECKED_SHARE]])
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )
        return np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64)[1:].astype(np.int64)

    def _check(self, sample: Sequence[str]) -> None:
        for ours, theirs in zip(self._encode(sample), self._reference.encode(sample), strict=True):
            if not np.array_equal(ours, theirs):
                raise Mismatch


Encoder = FastEncoder | ReferenceEncoder


def fastest(tokenizer: PreTrainedTokenizerBase) -> tuple[Encoder, str | None]:
    """The fast encoder if it is installed and can read this tokenizer, else the reference and why."""
    try:
        return FastEncoder(tokenizer), None
    except ImportError:
        return ReferenceEncoder(tokenizer), "fastokens is not installed"
    except Exception as error:  # whatever a tokenizer.json that it doesn't understand makes it raise
        return ReferenceEncoder(tokenizer), f"fastokens can't read this tokenizer ({error})"
