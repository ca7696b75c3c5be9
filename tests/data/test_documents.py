import itertools
import random
import re

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from clm.data.sources import packed
from clm.data.sources.documents import split, split_rows
from clm.data.sources.packed import Batch, gather

LITERALS = ["<|endoftext|>", "aa", "\n--\n", "\n\n"]
SEPARATORS = [None, "line", "blank_line", "article", *LITERALS]


def joined(batches):
    """Whole documents; checks what a batch promises on the way."""
    texts, goes_on = [], False
    for batch in batches:
        assert batch.texts and all(batch.texts)
        first, *others = batch.texts
        if goes_on:
            texts[-1] += first
        else:
            texts.append(first)
        texts += others
        goes_on = batch.continues
    assert not goes_on
    return texts


def naive(text, separator):
    """The same rules over the whole text, written another way."""
    if separator is None:
        parts = [text]
    elif separator == "line":
        parts = [line.removesuffix("\r") for line in text.split("\n")[:-1]] + text.split("\n")[-1:]
    elif separator == "blank_line":
        parts, open_ = [], False
        for line in re.findall(r"[^\n]*\n|[^\n]+\Z", text):
            if not line.strip(" \t\r\n"):
                open_ = False
            elif open_:
                parts[-1] += line
            else:
                parts, open_ = [*parts, line], True
        parts = [re.sub(r"\r?\n\Z", "", part) for part in parts]
    elif separator == "article":
        lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
        parts = [""]
        for number, line in enumerate(lines):
            title = re.fullmatch(r" = (?!= )[^\n]*[^\s=] =[ \t\r]*\n", line)
            before = number > 0 and not lines[number - 1].strip(" \t\r\n")
            after = number + 1 < len(lines) and re.fullmatch(r"[ \t\r]*\n", lines[number + 1])
            if title and before and after and parts[-1].strip():
                parts.append("")
            parts[-1] += line
    else:
        parts = text.split(separator)
        if not separator[-1].isspace():
            parts[1:] = [re.sub(r"\A\r?\n", "", part) for part in parts[1:]]
        if not separator[0].isspace():
            parts[:-1] = [re.sub(r"\r?\n\Z", "", part) for part in parts[:-1]]
    return [part for part in parts if part.strip()]


def chunked(text, rng, longest):
    while text:
        size = rng.randint(1, longest)
        yield text[:size]
        text = text[size:]


PIECES = [
    "a",
    "a",
    "b c",
    "é",
    "。",
    " ",
    "  ",
    "\t",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\u3000",
    "\0",
    " = T = \n",
    " = = S = = \n",
]


@pytest.mark.parametrize("separator", SEPARATORS)
def test_any_chunks_give_the_documents_of_the_whole_text(separator, monkeypatch):
    rng = random.Random(0)
    common = separator if separator in LITERALS else "\n\n = T = \n\n"
    pieces = [*PIECES, *[common] * 3]
    several = in_pieces = 0
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 30)))
        monkeypatch.setattr(packed, "CHUNK_BYTES", rng.choice([2, 8, 30, 1 << 20]))
        batches = list(split(chunked(text, rng, rng.choice([1, 5, 40])), separator))
        assert joined(batches) == naive(text, separator), repr(text)
        assert joined(gather(batches)) == joined(batches)
        several += len(joined(batches)) > 1
        in_pieces += any(batch.continues for batch in batches)
    assert in_pieces > 100
    assert several > 100 or separator is None


def test_separators_by_example():
    def of(text, separator):
        return joined(split([text], separator))

    assert of("a\r\n\n b\nc", "line") == ["a", " b", "c"]
    assert of("\n \na\nb\n \t\r\n\n  c\n", "blank_line") == ["a\nb", "  c"]
    assert of("a\r\nb\r\n\r\nc\r\n", "blank_line") == ["a\r\nb", "c"]
    assert of("a\n<|endoftext|>\nb\n\n<|endoftext|><|endoftext|> \n", "<|endoftext|>") == ["a", "b\n"]
    assert of("a\rb", "line") == ["a\rb"]
    assert of(" \n\t\n", None) == []


def test_an_article_starts_at_a_title_between_blank_lines():
    first = " \n = One = \n \n text = \n = Like a title = \n \n = = Section = = \n \n text \n\n"
    second = " = Two = Three = \n \n text \n"
    assert joined(split([first + second], "article")) == [first, second]
    assert "".join(split([first + second], "article").__next__().texts) == first


def test_rows_are_documents_or_lines_of_a_text():
    rows = [["", " = One = \n", "", "text \n"], ["", " = Two = \n", "", "te\n\nxt"], []]
    assert joined(split_rows(rows, None)) == [" = One = \n", "text \n", " = Two = \n", "te\n\nxt"]
    assert joined(split_rows(rows, "article")) == ["\n = One = \n\ntext \n\n", " = Two = \n\nte\n\nxt\n"]
    assert joined(split_rows([["a|b", "c"], [" ", "|d|"]], "|")) == ["a", "b", "c", "d"]


def test_a_long_row_comes_in_pieces(monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 20)
    batches = list(split_rows([["short", "many words " * 10, "end"]], None))
    assert joined(batches) == ["short", "many words " * 10, "end"]
    assert sum(batch.continues for batch in batches) > 3


def test_batches_stay_small(monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 100)
    sizes = [sum(map(len, batch.texts)) for batch in split(["word " * 10] * 50, None)]
    assert len(sizes) > 20
    assert max(sizes) <= 100


def test_a_document_without_a_place_to_cut_is_given_whole(monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 10)
    assert list(split(["a" * 7] * 9, None)) == [Batch.of(["a" * 63], False)]


def test_a_cut_never_changes_the_tokens(monkeypatch):
    rng = random.Random(1)
    # What the pattern treats specially, and characters that some engines call white space and others don't.
    words = ["don't", "'s", " 's", "x", "é", "中", "1", "²", ".", "。", "!", "e\u0301", "\0"]
    blanks = [" ", "  ", "\n", "\t", "\r", "\x1c", "\x85", "\u200b", "\u3000", "\xa0", "\u180e", "\ufeff"]
    texts = ["".join(rng.choices(words + blanks, k=300)) for _ in range(100)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    monkeypatch.setattr(packed, "CHUNK_BYTES", 8)
    cuts = 0
    for text in texts:
        pieces = list(itertools.chain.from_iterable(batch.texts for batch in split(chunked(text, rng, 20), None)))
        cuts += len(pieces) - 1
        ids = [id for piece in pieces for id in tokenizer.encode(piece).ids]
        assert ids == tokenizer.encode(text).ids
    assert cuts > 1000
