"""Text to documents, in batches of some megabytes, and where a long document may be cut.

Everything works on large buffers, so that a document costs no more than an entry of a list.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from clm.data.separators import NAMED_SEPARATORS, cut
from clm.errors import UserError

CHUNK_BYTES = 2 << 20
DOCUMENTS_VERSION = 1  # raise it when the same input would give other documents


class NoText(UserError):
    """A source without any text."""


class Batch(NamedTuple):
    """Some consecutive documents, about CHUNK_BYTES of text at most.

    texts: whole documents in order, none empty or only white space; but if `continues`, the last is a piece,
    and the first text of the next batch goes on with the same document.
    """

    texts: list[str]
    continues: bool


class Source(Protocol):
    """Where documents come from. `documents()` starts from the beginning at each call."""

    name: str  # short, safe as a folder's name
    origin: str  # what a person calls it
    size_bytes: int | None  # bytes on disk, where known
    bytes_read: int  # of those, read so far in this pass (where size_bytes is None: bytes of text)

    def fingerprint(self) -> dict:
        """What shapes the documents, as JSON, found without reading any text."""

    def documents(self) -> Iterator[Batch]:
        """All documents, in order. Raises NoText if there is none."""

    def parts(self) -> list["Source"]:
        """The same documents, in the same order, as sources that can be read apart; itself alone if they can't be."""


def split(chunks: Iterable[str], separator: str | None) -> Iterator[Batch]:
    """Documents of one text that arrives in chunks; no separator: the text is one document."""
    return assemble(cut(chunks, separator))


def split_rows(batches: Iterable[list[str]], separator: str | None) -> Iterator[Batch]:
    """Documents of rows: each row is one; or is searched for a literal; or is a line of one running text."""
    if separator in NAMED_SEPARATORS:
        yield from split((_as_lines(rows) for rows in batches), separator)
        return
    for rows in batches:
        if separator is None and max(map(len, rows), default=0) <= CHUNK_BYTES // 2:
            if texts := [row for row in rows if row and not row.isspace()]:
                yield Batch(texts, False)
        else:
            for row in rows:
                yield from split(_slices(row), separator)


def gather(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same documents in fewer batches, for many small files or rows."""
    texts: list[str] = []
    size = 0
    for batch in batches:
        if not texts and len(batch.texts) > 1000:  # not so few that they need company
            yield batch
            continue
        texts += batch.texts
        size += sum(map(len, batch.texts))
        if batch.continues or size >= CHUNK_BYTES // 2:
            yield Batch(texts, batch.continues)
            texts, size = [], 0
    if texts:
        yield Batch(texts, False)


def assemble(cuts: Iterable[list[str]]) -> Iterator[Batch]:
    """Documents from cuts (see separators.py); those of white space only are dropped."""
    pending: list[str] = []  # the open document, as far as it has not been given out
    size = 0
    started = False  # a piece of the open document has been given out
    for parts in cuts:
        texts = []
        if len(parts) > 1:
            first = "".join([*pending, parts[0]])
            if first and (started or not first.isspace()):
                texts.append(first)
            texts += [text for text in parts[1:-1] if text and not text.isspace()]
            pending, size, started = [], 0, False
        last = parts[-1]
        at = 0
        if size + len(last) >= CHUNK_BYTES // 2 and (at := _last_safe_cut(last)):
            texts.append("".join([*pending, last[:at]]))
            pending, size, started = [], 0, True
        pending.append(last[at:])
        size += len(last) - at
        if texts:
            yield Batch(texts, at > 0)
    text = "".join(pending)
    if text and (started or not text.isspace()):
        yield Batch([text], False)


def _last_safe_cut(text: str) -> int:
    r"""The last place where a cut can't change the tokens, or 0: before white space, after anything else.

    In GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+, white
    space stands only at the start of a match or fills all of it, so no match holds a non-space followed by a
    space. The one look-ahead follows white space, and the left side ends with none. Engines differ on what
    \s is, so the cut is before a space or newline, and after a printable character: that excludes all of the
    categories Z and C, where every Unicode white space is.
    """
    for tail in (text[-(1 << 16) :], text):
        for blank in _BLANK_AFTER_OTHER.finditer(tail[::-1]):
            if tail[-1 - blank.end()].isprintable():
                return len(text) - blank.end()
    return 0


_BLANK_AFTER_OTHER = re.compile(r"[ \n](?=\S)")  # in reversed text


def _slices(text: str) -> Iterator[str]:
    step = CHUNK_BYTES // 2
    return (text[start : start + step] for start in range(0, len(text), step))


def _as_lines(rows: list[str]) -> str:
    # A row is one line end whatever it holds: the Hub's WikiText has a blank line as an empty row.
    return "".join([row if row.endswith("\n") else row + "\n" for row in rows])
