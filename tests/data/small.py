"""What the tests of tokenizer, encoder and store share: texts in a list as a source, and small tokenizers."""

import random
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clm.data import tokenizer
from clm.data.sources.documents import Notes
from clm.data.sources.packed import Batch
from clm.data.tokenizer import END_OF_TEXT

# Every kind that GPT-2's pattern tells apart, and white space on which Python, Rust and Unicode disagree.
PIECES = [
    *(
        "the",
        "of",
        "word",
        "don't",
        "'S",
        "we'll",
        "Ünïcode",
        "x1y2",
        "2024",
        "½",
        "٣٤",
        "中文字",
        "ไทย",
        "e\u0301",
        "😀👍🏽",
    ),
    *(" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x0b", "\x1c", "\x85", "\u200b", "\u180e"),
    *(".", ", ", "--", "…", "\0", "\ufeff", "\ufffd", END_OF_TEXT, "<|", "|>", "_", "²", "\U0010ffff"),
]


def mixed_text(pieces: int, seed: int = 0) -> str:
    """A text of everything that is difficult."""
    return "".join(random.Random(seed).choices(PIECES, k=pieces))


class Texts:
    """A source of batches from memory; `batches` is called anew for every pass."""

    name, origin, size_bytes, bytes_read = "texts", "some texts", None, 0
    notes = Notes()

    def __init__(self, batches: Callable[[], Iterable[list[str]]]) -> None:
        self.batches = batches

    def fingerprint(self) -> dict:
        return {}

    def documents(self) -> Iterator[Batch]:
        return (Batch.of(texts, False) for texts in self.batches())

    def parts(self) -> list["Texts"]:
        return [self]


class Unread(Texts):
    """A source that mustn't be read."""

    def __init__(self) -> None:
        super().__init__(list)

    def documents(self) -> Iterator[Batch]:
        raise AssertionError("the text was read")


@cache
def small_tokenizer(vocab_size: int = 700) -> PreTrainedTokenizerFast:
    """One with some hundreds of merges, of English and of `PIECES`."""
    english = "It is the first of the words that we've been reading, and there isn't another one of them. " * 50
    return tokenizer.train(Texts(lambda: [[mixed_text(20_000), english]]), vocab_size, 10**9, print)


@cache
def wide_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """One of so many ids, of which a text only ever has the 256 bytes; end-of-text is the last."""
    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    names += [f"unused {number}" for number in range(vocab_size - len(names) - 1)]
    wide = Tokenizer(models.BPE({name: number for number, name in enumerate([*names, END_OF_TEXT])}, []))
    wide.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    wide.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=wide, eos_token=END_OF_TEXT)
