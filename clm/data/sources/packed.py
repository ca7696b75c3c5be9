"""Documents in batches: packed into one buffer each, so that a document costs no Python object of its own."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

CHUNK_BYTES = 4 << 20
NEVER = b"\xff"  # a byte that UTF-8 doesn't have


class Batch(NamedTuple):
    """Some consecutive documents, about CHUNK_BYTES of text at most.

    data: whole documents in order, in UTF-8, `separator` between any two, none empty or only white space; but if
    `continues`, the last is a piece, and the first document of the next batch goes on with it.
    """

    data: bytes
    separator: bytes
    continues: bool

    @classmethod
    def of(cls, texts: list[str], continues: bool) -> "Batch":
        """Pack texts, of which there is at least one."""
        return cls(_packed(texts), NEVER, continues)

    @property
    def documents(self) -> list[bytes]:
        """The documents one by one, in UTF-8."""
        return self.data.split(self.separator)

    @property
    def texts(self) -> list[str]:
        """The documents one by one."""
        return [document.decode() for document in self.documents]


class Cut(NamedTuple):
    """A stretch of text cut into documents.

    first: goes on with the document that is open; last: opens another, or None if the stretch ends none.
    whole: the documents between, packed as in a Batch; may be empty.
    """

    first: bytes
    whole: bytes
    last: bytes | None
    separator: bytes


def pack(parts: list[str]) -> Cut:
    """A cut from its parts in order; those that are whole documents of white space are left out."""
    whole = [text for text in parts[1:-1] if text and not text.isspace()]
    return Cut(parts[0].encode(), _packed(whole), parts[-1].encode() if len(parts) > 1 else None, NEVER)


def assemble(cuts: Iterable[Cut]) -> Iterator[Batch]:
    """Documents from cuts; those of white space only are dropped, long ones given out in pieces."""
    pending: list[bytes] = []  # the open document, as far as it has not been given out
    size = 0
    started = False  # a piece of the open document has been given out
    separator = NEVER
    for first, whole, last, separator in cuts:
        documents = []
        if last is not None:
            document = b"".join([*pending, first])
            if document and (started or not document.decode().isspace()):
                documents.append(document)
            if whole:
                documents.append(whole)
            pending, size, started = [], 0, False
        rest = first if last is None else last
        at = 0
        if size + len(rest) >= CHUNK_BYTES // 2 and (at := _last_safe_cut(rest)):
            documents.append(b"".join([*pending, rest[:at]]))
            pending, size, started = [], 0, True
        pending.append(rest[at:])
        size += len(rest) - at
        if documents:
            yield Batch(separator.join(documents), separator, at > 0)
    document = b"".join(pending)
    if document and (started or not document.decode().isspace()):
        yield Batch(document, separator, False)


def gather(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same documents in fewer batches, for many small files or rows."""
    held: list[bytes] = []
    size, between = 0, NEVER
    for batch in batches:
        if held and batch.separator != between:
            yield Batch(between.join(held), between, False)
            held, size = [], 0
        between = batch.separator
        held.append(batch.data)
        size += len(batch.data)
        if batch.continues or size >= CHUNK_BYTES // 4:
            yield Batch(between.join(held), between, batch.continues)
            held, size = [], 0
    if held:
        yield Batch(between.join(held), between, False)


def _packed(texts: list[str]) -> bytes:
    return NEVER.join([text.encode() for text in texts])


def _last_safe_cut(text: bytes) -> int:
    r"""The last place where a cut can't change the tokens, or 0: before white space, after anything else.

    In GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+, white
    space stands only at the start of a match or fills all of it, so no match holds a non-space followed by a
    space. The one look-ahead follows white space, and the left side ends with none. Engines differ on what
    \s is, so the cut is before a space or newline, and after a printable character: that excludes all of the
    categories Z and C, where every Unicode white space is.
    """
    for tail in (text[-(1 << 16) :], text):
        for blank in _BLANK_AFTER_OTHER.finditer(tail[::-1]):
            at = len(text) - blank.end()
            if text[max(0, at - 4) : at].decode(errors="ignore")[-1:].isprintable():
                return at
    return 0


_BLANK_AFTER_OTHER = re.compile(rb"[ \n](?=\S)")  # in reversed text
