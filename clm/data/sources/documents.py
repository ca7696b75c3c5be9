"""Text to documents, in batches of some megabytes: where they come from, and how a text or rows become them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from clm.data.sources import packed
from clm.data.sources.packed import Batch, assemble, pack
from clm.data.sources.paragraphs import paragraphs
from clm.data.sources.separators import NAMED_SEPARATORS, cut
from clm.errors import UserError

DOCUMENTS_VERSION = 2  # raise it when the same input would give other documents


class NoText(UserError):
    """A source without any text."""


class Notes:
    """What a reader has to say about what it reads: each thing once, with how often and where it was seen first."""

    def __init__(self, found: Mapping[str, tuple[int, str]] | None = None) -> None:
        """Take what was found before: by what it is, its count and its first place, as JSON keeps it."""
        self.found = {what: (count, place) for what, (count, place) in (found or {}).items()}

    def add(self, what: str, place: str, count: int = 1) -> None:
        """Note that `what` was seen, `count` times, first at `place`."""
        before, first = self.found.get(what, (0, place))
        self.found[what] = (before + count, first)

    def update(self, other: "Notes") -> None:
        """Take in what another reader found."""
        for what, (count, place) in other.found.items():
            self.add(what, place, count)

    @property
    def lines(self) -> list[str]:
        """For people, a line each."""
        return [
            f"{place}: {what}" if count == 1 else f"{what}: {count:,} times, first at {place}"
            for what, (count, place) in self.found.items()
        ]


class Source(Protocol):
    """Where documents come from. `documents()` starts from the beginning at each call."""

    name: str  # short, safe as a folder's name
    origin: str  # what a person calls it
    size_bytes: int | None  # bytes on disk, where known
    bytes_read: int  # of those, read so far in this pass (where size_bytes is None: bytes of text)
    notes: Notes  # on what was read so far in this pass

    def fingerprint(self) -> dict:
        """What shapes the documents, as JSON, found without reading any text."""

    def documents(self) -> Iterator[Batch]:
        """All documents, in order. Raises NoText if there is none."""

    def parts(self) -> list["Source"]:
        """The same documents, in the same order, as sources that can be read apart; itself alone if they can't be."""


def split(chunks: Iterable[str], separator: str | None) -> Iterator[Batch]:
    """Documents of one text that arrives in chunks; no separator: the text is one document."""
    if separator == "blank_line":
        return paragraphs(chunk.encode() for chunk in chunks)
    return assemble(map(pack, cut(chunks, separator)))


def split_rows(tables: Iterable[list[str]], separator: str | None) -> Iterator[Batch]:
    """Documents of rows: each row is one; or is searched for a literal; or is a line of one running text."""
    if separator in NAMED_SEPARATORS:
        yield from split((_as_lines(rows) for rows in tables), separator)
        return
    for rows in tables:
        if separator is None and max(map(len, rows), default=0) <= packed.CHUNK_BYTES // 2:
            if texts := [row for row in rows if row and not row.isspace()]:
                yield Batch.of(texts, False)
        else:
            for row in rows:
                yield from split(_slices(row), separator)


def _slices(text: str) -> Iterator[str]:
    step = packed.CHUNK_BYTES // 2
    return (text[start : start + step] for start in range(0, len(text), step))


def _as_lines(rows: list[str]) -> str:
    # A row is one line end whatever it holds: the Hub's WikiText has a blank line as an empty row.
    return "".join([row if row.endswith("\n") else row + "\n" for row in rows])
