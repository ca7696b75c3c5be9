"""The bytes of a log as text, a piece at a time, whatever they are: lines, or the flat objects of a JSON document."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from clm.errors import UserError

PIECE = 1 << 20  # bytes
LONGEST = 1 << 16  # of a line, in characters: the rest of a longer one is dropped
_OBJECT = re.compile(r"\{[^{}]*\}")
_WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # as PowerShell's > writes


class Stream:
    """A log that is read once, from its start to its end; `head` can be looked at before."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        """UserError where it is empty, or binary."""
        self.name, self._file = name, file
        first = self._piece()
        while len(first) < LONGEST and (more := self._piece()):
            first += more
        if not first.strip():
            raise UserError(f"{name}: it is empty")
        encoding = next((wide for mark, wide in _WIDE.items() if first.startswith(mark)), "utf-8-sig")
        if encoding == "utf-8-sig" and _is_binary(first[:LONGEST]):
            raise UserError(f"{name}: binary, no log that can be read")
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self.head = self._decoder.decode(first)
        self.tail = ""  # the end of what was read

    def lines(self) -> Iterator[str]:
        """Every line; a carriage return ends one too."""
        rest = ""
        for piece in self.pieces():
            *whole, rest = (rest + piece).replace("\r", "\n").split("\n")
            yield from whole
            rest = rest[:LONGEST]
        if rest:
            yield rest

    def objects(self) -> Iterator[dict[str, Any]]:
        """Every JSON object in it that holds no other, as the entries of a trainer_state.json's log_history are."""
        rest = ""
        for piece in self.pieces():
            rest, end = rest + piece, 0
            for found in _OBJECT.finditer(rest):
                end = found.end()
                try:
                    yield json.loads(found.group())
                except ValueError:
                    continue
            rest = rest[max(end, len(rest) - LONGEST) :]

    def pieces(self) -> Iterator[str]:
        """The text, some of it at a time."""
        yield self.head
        self.tail = self.head[-LONGEST:]
        while piece := self._piece():
            text = self._decoder.decode(piece)
            self.tail = (self.tail + text)[-LONGEST:]
            yield text

    def _piece(self) -> bytes:
        try:
            return self._file.read(PIECE)
        except OSError as error:
            raise UserError(f"{self.name}: can't be read ({error.strerror})") from None


def _is_binary(head: bytes) -> bool:
    odd = sum(
        head.count(byte) for byte in (*range(7), *range(14, 27), *range(28, 32))
    )  # but for tabs, colours and the like
    return odd > len(head) / 100
