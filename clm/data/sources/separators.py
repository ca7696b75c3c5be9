"""Where documents end in a running text: one generator a separator, from chunks of the text to its parts.

Parts are a list of strings: a document ends between any two neighbours, while the last string of one list and
the first of the next belong to the same document. A separator is found wherever chunks happen to end, and the
work a byte doesn't grow with the document. Blank lines, the separator of large texts, have paragraphs.py.
"""

import re
from collections.abc import Iterable, Iterator

NAMED_SEPARATORS = ("line", "blank_line", "article")


def cut(chunks: Iterable[str], separator: str | None) -> Iterator[list[str]]:
    """The parts of a text at `line`, `article`, a literal, or (None) nowhere."""
    if separator is None:
        return ([chunk] for chunk in chunks)
    named = {"line": _lines, "article": _articles}
    return named[separator](chunks) if separator in named else _between(chunks, separator)


def _lines(chunks: Iterable[str]) -> Iterator[list[str]]:
    held = ""  # a carriage return that may be half of a line end
    for chunk in chunks:
        text = held + chunk
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        yield (text.replace("\r\n", "\n") if "\r" in text else text).split("\n")
    yield [held]


_TITLE = re.compile(r"\n( = (?!= )[^\n]*[^\s=] =[ \t\r]*\n)(?=[ \t\r]*\n)")


def _articles(chunks: Iterable[str]) -> Iterator[list[str]]:
    """WikiText: a document starts at a line ` = Title = ` between blank lines, and nothing is removed."""
    held: list[str] = []  # the last two whole lines, which what follows may make a title, and the line begun
    named = False  # the open document has text; blank lines before the first title don't make a document

    def cut_up(text: str, end: int) -> list[str]:
        nonlocal named
        parts, start = [], 0
        for title in _TITLE.finditer(text):
            at = title.start(1)
            blank_before = not text[text.rfind("\n", 0, at - 1) + 1 : at].strip(" \t\r\n")
            if blank_before and (named or not text[start:at].isspace()):
                parts.append(text[start:at])
                start, named = at, False
        rest = text[start:end]
        named = named or (bool(rest) and not rest.isspace())
        return [*parts, rest]

    for chunk in chunks:
        end = chunk.rfind("\n") + 1
        if not end:
            held.append(chunk)
            continue
        text = "".join([*held, chunk[:end]])
        previous = text.rfind("\n", 0, len(text) - 1)
        hold = text.rfind("\n", 0, previous) + 1 if previous > 0 else 0
        yield cut_up(text, hold)
        held = [text[hold:], chunk[end:]]
    text = "".join(held)
    yield cut_up(text, len(text))


def _between(chunks: Iterable[str], literal: str) -> Iterator[list[str]]:
    """Text between literals; a line end on either side of one is part of it, as in GPT-2's data."""
    reach = len(literal) + 4  # a literal, a line end before it, and one begun after it
    held = ""

    def trimmed(parts: list[str]) -> list[str]:
        if not literal[-1].isspace():
            parts[1:] = [
                text.removeprefix("\r").removeprefix("\n") if text[:2] == "\r\n" else text.removeprefix("\n")
                for text in parts[1:]
            ]
        if not literal[0].isspace():
            parts[:-1] = [text[:-2] if text.endswith("\r\n") else text.removesuffix("\n") for text in parts[:-1]]
        return parts

    for chunk in chunks:
        parts = (held + chunk).split(literal)
        if len(parts) > 1 and len(parts[-1]) < 2:  # its line end may still come
            tail = parts.pop()
            parts[-1] += literal + tail
        *parts, rest = trimmed(parts)
        held = rest[-reach:]
        yield [*parts, rest[:-reach]]
    yield trimmed(held.split(literal))
