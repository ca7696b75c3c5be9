"""Bulk encoding: the tokenizer's own ids, from a faster encoder wherever it proves itself equal.

`tokenizers` is the reference. fastokens reads the same tokenizer.json and encodes some fifty times faster; on a share
of every text it has to give the reference's very ids, or the whole text is encoded by the reference.
"""

import importlib
from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

CHECKED_SHARE = 1024  # one text in so many is compared with the reference
CHECKED_CHARACTERS = 16_384  # of its beginning
CHECKED_AT_ONCE = 65_536  # characters, so that the reference's threads are worth waking


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

    def finish(self) -> None:
        """Nothing is left to do."""


class FastEncoder:
    """fastokens, watched over by the reference."""

    name = "fastokens"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        fastokens = importlib.import_module("fastokens")
        self._reference = ReferenceEncoder(tokenizer)
        self._unchecked: list[str] = []
        self._tokenizer = fastokens.Tokenizer.from_json_str(tokenizer.backend_tokenizer.to_str())

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As ReferenceEncoder.encode.

        Raises:
            Mismatch: the ids of the checked share differ from the reference's.
        """
        self._unchecked += [text[:CHECKED_CHARACTERS] for text in texts[::CHECKED_SHARE]]
        if sum(map(len, self._unchecked)) >= CHECKED_AT_ONCE:
            self.finish()
        return self._encode(texts)

    def finish(self) -> None:
        """Check what hasn't been yet; to be called before the ids are relied on.

        Raises:
            Mismatch: as encode.
        """
        sample, self._unchecked = self._unchecked, []
        if sample:
            for ours, theirs in zip(self._encode(sample), self._reference.encode(sample), strict=True):
                if not np.array_equal(ours, theirs):
                    raise Mismatch(f"{self.name} gave other ids than tokenizers")

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )
        return np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64)[1:].astype(np.int64)


Encoder = FastEncoder | ReferenceEncoder


def fastest(tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]) -> Encoder:
    """The fast encoder if it is installed and can read this tokenizer, else the reference, saying why."""
    try:
        return FastEncoder(tokenizer)
    except ImportError:
        why = "fastokens is not installed"
    except Exception as error:  # whatever a tokenizer.json that it doesn't understand makes it raise
        why = f"fastokens can't read this tokenizer ({error})"
    say(f"encoding with tokenizers, the slow way: {why}")
    return ReferenceEncoder(tokenizer)
