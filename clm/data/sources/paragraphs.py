"""Documents that end at blank lines: the separator of large plain texts, found at the speed of numpy."""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from clm.data.sources.packed import Batch, Cut, assemble

SEPARATOR = b"\n\n"  # what every run of blank lines becomes
_BLANKS = b" \t\r\n"
_WITH_RETURNS = re.compile(rb"\r?\n[ \t\r\n]*\n")
_LEADING = re.compile(rb"(?:[ \t\r\n]*\n)?")


def paragraphs(chunks: Iterable[bytes]) -> Iterator[Batch]:
    """The documents of one text, which arrives in chunks of whole UTF-8 characters."""
    return assemble(_cuts(chunks))


def _cuts(chunks: Iterable[bytes]) -> Iterator[Cut]:
    held: list[bytes] = []  # white space at the end of what was read: perhaps part of a separator
    begun = False
    for chunk in chunks:
        end = len(chunk.rstrip(_BLANKS))
        if not end:
            held.append(chunk)
            continue
        text = b"".join([*held, chunk[:end]])
        held = [chunk[end:]]
        if not begun:
            text = text[_LEADING.match(text).end() :]
            begun = True
        yield _cut(text)
    line, newline, _ = b"".join(held).partition(b"\n")
    if begun:
        yield Cut(line.removesuffix(b"\r") if newline else line, b"", None, SEPARATOR)


def _cut(text: bytes) -> Cut:
    begins, ends = _separators(text)
    if not len(begins):
        return Cut(text, b"", None, SEPARATOR)
    whole = text[ends[0] : begins[-1]]  # empty if there is but one separator
    odd = np.flatnonzero(ends - begins != len(SEPARATOR))
    odd = odd[(odd > 0) & (odd < len(begins) - 1)]
    if len(odd):
        starts = [ends[0], *ends[odd].tolist()]
        whole = SEPARATOR.join([text[a:b] for a, b in zip(starts, [*begins[odd].tolist(), begins[-1]], strict=True)])
    return Cut(text[: begins[0]], whole, text[ends[-1] :], SEPARATOR)


def _separators(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where separators begin and end; a document of other white space between two of them makes them one."""
    if b"\r" in text:  # slower
        found = [match.span() for match in _WITH_RETURNS.finditer(text)]
        begins, ends = np.array(found, np.int64).reshape(-1, 2).T
    else:
        begins, ends = _runs_of_blank_lines(text)
    data = np.frombuffer(text, np.uint8)
    blank = _MAY_BEGIN_BLANK[data[ends[:-1]]] & _MAY_END_BLANK[data[begins[1:] - 1]]
    drop = [i for i in np.flatnonzero(blank).tolist() if text[ends[i] : begins[i + 1]].decode().isspace()]
    if drop:
        begins, ends = np.delete(begins, [i + 1 for i in drop]), np.delete(ends, drop)
    return begins, ends


def _runs_of_blank_lines(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(text, np.uint8)
    newlines = np.flatnonzero(data == 10)
    if len(newlines) < 2:
        return newlines[:0], newlines[:0]
    starts, stops = newlines[:-1] + 1, newlines[1:]  # of lines
    blank = starts == stops
    spaced = np.flatnonzero(_IS_SPACE[data[starts]] & _IS_SPACE[data[stops - 1]] & ~blank)
    blank[[i for i in spaced.tolist() if not text[starts[i] : stops[i]].strip(b" \t")]] = True
    edges = np.flatnonzero(np.diff(blank, prepend=False, append=False))
    return newlines[edges[::2]], newlines[edges[1::2]] + 1


def _table(*bytes_: int) -> np.ndarray:
    table = np.zeros(256, dtype=bool)
    table[list(bytes_)] = True
    return table


_IS_SPACE = _table(9, 32)
_ASCII_SPACE = (*range(9, 14), *range(28, 33))
_MAY_BEGIN_BLANK = _table(*_ASCII_SPACE, 0xC2, 0xE1, 0xE2, 0xE3)  # first bytes of Unicode's white space
_MAY_END_BLANK = _table(*_ASCII_SPACE, *range(0x80, 0xC0))
