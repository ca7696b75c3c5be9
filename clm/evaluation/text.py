"""A text to be scored: its documents' ids by the model's own tokenizer, and what each document is divided by."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from clm.data.sources.documents import Source
from clm.data.sources.packed import Batch
from clm.data.store import encoder as encoders
from clm.progress import ByteProgress, Say


@dataclass(frozen=True)
class EncodedText:
    """Ids of all documents end to end, memory-mapped; tokens, words and bytes of each, (documents,) int64.

    Words are whitespace words plus one for every line end.
    """

    ids: np.ndarray
    tokens: np.ndarray
    words: np.ndarray
    bytes: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where each document's ids begin."""
        return np.cumsum(self.tokens) - self.tokens

    def span(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to before `stop`."""
        return self.ids[start:stop]


class SlowEncoder:
    """A tokenizer in Python, one text at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def encode(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """All ids, end to end, and where each document's ids end."""
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        ids = [self._tokenizer(text, **options)["input_ids"] for text in batch.texts]
        return np.concatenate(ids).astype(np.uint32), np.cumsum([len(of_text) for of_text in ids])

    def finish(self) -> None:
        """Nothing is left to do."""


def encode(source: Source, tokenizer: PreTrainedTokenizerBase, show: bool, say: Say) -> EncodedText:
    """Encode a source's documents, in one pass; ids go to a nameless file.

    A special token's name inside the text is encoded as the characters it is made of, as in training, where the
    tokenizer can.

    Raises:
        UserError: the source's own errors, or no text.
    """
    pieces = _takes_pieces(tokenizer)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        encoder = SlowEncoder(tokenizer)
    else:
        encoder = encoders.fastest(tokenizer, say) if pieces else encoders.ReferenceEncoder(tokenizer)
    try:
        return _encode(source, encoder, pieces, show)
    except encoders.Mismatch as error:
        say(f"{error} on this text: encoding it again with tokenizers")
        return _encode(source, encoders.ReferenceEncoder(tokenizer), pieces, show)


def _encode(source: Source, encoder: encoders.Encoder | SlowEncoder, pieces: bool, show: bool) -> EncodedText:
    counts: list[list[int]] = []  # tokens, words, bytes of each document
    going_on = False
    with (
        tempfile.TemporaryFile() as file,  # a memory map outlives it
        ByteProgress(f"encoding {source.name}", source.size_bytes, show) as progress,
    ):
        for batch in source.documents() if pieces else _whole(source.documents()):
            ids, ends = encoder.encode(batch)
            for text, tokens in zip(batch.texts, np.diff(ends, prepend=0).tolist(), strict=True):
                new = [tokens, len(text.split()) + text.count("\n"), len(text.encode())]
                if going_on:
                    counts[-1] = [sum(pair) for pair in zip(counts[-1], new, strict=True)]
                else:
                    counts.append(new)
                going_on = False
            going_on = batch.continues
            file.write(ids.astype(np.uint32))
            progress.at(source.bytes_read)
        encoder.finish()
        file.flush()
        table = np.array(counts, dtype=np.int64)
        ids = np.memmap(file, np.uint32, mode="r") if table[:, 0].any() else np.empty(0, np.uint32)
    return EncodedText(ids, *table.T.copy())


def _takes_pieces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a long document gives the same ids in pieces: so with GPT-2's pattern, for which pieces are made."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is not None:
        return False
    splitter = backend.pre_tokenizer
    return isinstance(splitter, pre_tokenizers.ByteLevel) and splitter.use_regex and not splitter.add_prefix_space


def _whole(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same documents, each in one piece."""
    held: list[str] = []
    for batch in batches:
        texts = batch.texts
        closed, begun = (texts[:-1], texts[-1:]) if batch.continues else (texts, [])
        if closed:
            yield Batch.of(["".join([*held, closed[0]]), *closed[1:]], False)
            held = []
        held += begun
    if held:
        yield Batch.of(["".join(held)], False)
