"""Compressed bytes to plain ones: known by their first bytes, in flat memory, and with errors that name the place."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import zstandard

from clm.data.sources import packed
from clm.data.sources.documents import Notes
from clm.data.sources.readers import formats
from clm.errors import UserError

PIECE = 4 << 20  # of what is unpacked at once
MOST_UNPACKED = 250  # bytes from one, after BOMB_BYTES: text shrinks to a tenth, or a fiftieth where it repeats
BOMB_BYTES = 256 << 20

# name: (a new stream, bytes to give it at once, so that what comes out of them fits in memory)
_STREAMS: dict[str, tuple[Callable[[], Any], int]] = {
    "gzip": (lambda: zlib.decompressobj(wbits=31), 1 << 12),
    # `zstd --long=31` writes windows of 2 GiB. Three bytes can make 128 KiB.
    "zstd": (zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj, 1 << 10),
    "bzip2": (bz2.BZ2Decompressor, 1 << 16),
    "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 << 30), 1 << 16),
}
_DAMAGE = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError)


class Content(NamedTuple):
    """What is in a file, or in a member of an archive, its compression taken off."""

    place: str  # for messages
    name: str  # of the file
    format: str  # of the bytes, as formats.recognise names it
    head: bytes  # the first of them
    blocks: Iterator[bytes]  # all of them
    file: BinaryIO | None  # that holds these very bytes; None where they come out of another


def opened(file: BinaryIO, place: str, name: str, notes: Notes) -> Content:
    """As unpacked, of an open file."""
    head = file.read(formats.HEAD_BYTES)
    file.seek(0)
    return unpacked(iter(lambda: file.read(packed.CHUNK_BYTES // 2), b""), place, name, notes, head, file)


def unpacked(
    blocks: Iterator[bytes],
    place: str,
    name: str,
    notes: Notes,
    head: bytes | None = None,
    file: BinaryIO | None = None,
) -> Content:
    """The content of a file whose bytes come in blocks. Compressed ones are known by their first bytes.

    Raises UserError for a format that isn't read, here, and while the blocks are read, for compressed data that is
    damaged, ends too early, or unpacks to more than any text does.
    """
    layers = 0
    while True:
        if head is None:
            head, blocks = _peek(blocks)
        format = formats.recognise(head, place)
        if format not in _STREAMS:
            break
        layers += 1
        if layers > 3:
            raise UserError(f"{place}: is compressed more than three times over; unpack it")
        head, blocks = None, _decompressed(blocks, place, format)
    said = name.lower().endswith((*formats.COMPRESSED, ".tgz", ".tbz2", ".txz", ".tzst"))
    if head and said != bool(layers):
        notes.add(f"is {'' if layers else 'not '}compressed, whatever its name says, and was read so", place)
    return Content(place, name, format, head, blocks, None if layers else file)


def _peek(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all blocks."""
    first: list[bytes] = []
    while sum(map(len, first)) < formats.HEAD_BYTES and (block := next(blocks, b"")):
        first.append(block)
    return b"".join(first)[: formats.HEAD_BYTES], _again(first, blocks)


def _again(first: list[bytes], blocks: Iterator[bytes]) -> Iterator[bytes]:
    while first:  # itertools.chain would hold what it gave out
        yield first.pop(0)
    yield from blocks


def _decompressed(blocks: Iterator[bytes], place: str, format: str) -> Iterator[bytes]:
    # The stock readers won't do: zstandard's takes a truncated file for whole, gzip's doesn't say where.
    new, at_once = _STREAMS[format]
    stream, size, taken = None, 0, 0
    try:
        for block in blocks:
            taken += len(block)
            view = memoryview(block)
            while view:
                if stream is None:
                    stream = new()
                given, view = view[:at_once], view[at_once:]
                for data in _pieces(stream, given):
                    size += len(data)
                    if size > BOMB_BYTES and size > MOST_UNPACKED * taken:
                        raise UserError(f"{place}: unpacks to more than {MOST_UNPACKED} times its size; no text does")
                    if data:
                        yield data
                if stream.eof:  # several streams may follow each other, with zeros between
                    rest = bytes(stream.unused_data) + bytes(view)
                    view, stream = memoryview(rest.lstrip(b"\0")), None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{place}: is damaged after {size:,} bytes of text ({reason}); get the file again") from None
    if stream is not None:
        raise UserError(f"{place}: is cut short and ends after {size:,} bytes of text; get the file again")


def _pieces(stream: Any, data: memoryview) -> Iterator[bytes]:
    """What a stream makes of some data: bzip2 makes a gigabyte of a kilobyte, so not at once."""
    if not hasattr(stream, "needs_input"):
        yield stream.decompress(data)
        return
    yield stream.decompress(data, PIECE)
    while not (stream.eof or stream.needs_input):
        yield stream.decompress(b"", PIECE)
