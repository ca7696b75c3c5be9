"""Bytes of a file to text: decompression, strict UTF-8, and errors that name the place."""

import codecs
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from clm.data.sources import packed
from clm.errors import UserError

COMPRESSED = (".gz", ".zst")


def read_text(file: BinaryIO, path: Path) -> Iterator[str]:
    """As read_utf8, decoded."""
    return (chunk.decode() for chunk in read_utf8(file, path))


def read_utf8(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The text of an open file in chunks of some megabytes, of whole characters, without a byte order mark.

    Raises UserError for bytes that aren't UTF-8, with their offset in the (decompressed) file, and for
    compressed data that is damaged or ends too early.
    """
    offset, rest, started = 0, b"", False
    blocks = read_bytes(file, path)
    while True:
        block = next(blocks, None)
        data = rest + block if rest and block is not None else rest if block is None else block
        try:
            used = codecs.utf_8_decode(data, "strict", block is None)[1]
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: not UTF-8 at byte {offset + error.start} (0x{data[error.start]:02x}); convert it, "
                f"for example with: iconv -f LATIN1 -t UTF-8"
            ) from None
        offset += used
        text, rest = data[:used], data[used:]
        if text and not started:
            started = True
            text = text.removeprefix(codecs.BOM_UTF8)
        if text:
            yield text
        if block is None:
            return


def read_bytes(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The bytes of an open file in blocks, decompressed if its name ends in .gz or .zst."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return _decompressed(file, path, lambda: zlib.decompressobj(wbits=31))
    if suffix == ".zst":
        # `zstd --long=31` writes windows of 2 GiB.
        return _decompressed(file, path, zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj)
    return iter(lambda: file.read(packed.CHUNK_BYTES // 2), b"")


def _decompressed(file: BinaryIO, path: Path, new: Callable[[], Any]) -> Iterator[bytes]:
    # The stock readers won't do: zstandard's takes a truncated file for whole, gzip's doesn't say where.
    stream, size = None, 0
    try:
        while block := file.read(1 << 16):
            while block:
                if stream is None:
                    stream = new()
                data = stream.decompress(block)
                size += len(data)
                if data:
                    yield data
                block = b""
                if stream.eof:  # several streams may follow each other, with zeros between
                    block, stream = stream.unused_data.lstrip(b"\0"), None
    except (zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path}: damaged after {size:,} bytes of text ({error}); get the file again") from None
    if stream is not None:
        raise UserError(f"{path}: cut short, ends after {size:,} bytes of text; get the file again")
