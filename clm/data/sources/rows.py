"""Rows of JSON lines, CSV and parquet to lists of texts, with errors that name the line or row."""

import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from clm.data.sources import packed
from clm.data.sources.decoding import COMPRESSED, read_bytes
from clm.errors import MachineError, UserError

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_rows(chunks: Iterable[str], path: Path, column: str) -> Iterator[list[str]]:
    """The texts of JSON lines."""
    number = 0
    for lines in _line_lists(chunks):
        rows = []
        for line in lines:
            number += 1
            if line and not line.isspace():
                try:
                    rows.append(_json_text(line, column))
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}: {error}") from None
        yield rows


def _json_text(line: str, column: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, column {error.colno}); one object a line is needed") from None
    if not isinstance(row, dict):
        raise ValueError(f'not an object; lines like {{"{column}": "…"}} are needed')
    if column not in row:
        raise ValueError(f"has no {column!r}, only {', '.join(map(repr, row)) or 'an empty object'}; set text_column")
    text = row[column]
    if not isinstance(text, str):
        raise ValueError(f"{column!r} is not a text but {json.dumps(text)[:40]}")
    if "\\u" in line and (surrogate := _SURROGATE.search(text)):  # nothing but an escape makes one
        raise ValueError(f"{column!r} holds a lone surrogate, \\u{ord(surrogate[0]):04x}, which is no character")
    return text


def _line_lists(chunks: Iterable[str]) -> Iterator[list[str]]:
    """The lines of a text, a list a chunk, without the newlines; a carriage return before one stays."""
    pending: list[str] = []
    for chunk in chunks:
        first, *lines = chunk.split("\n")
        pending.append(first)
        if lines:
            yield ["".join(pending), *lines[:-1]]
            pending = [lines[-1]]
    if last := "".join(pending):
        yield [last]


def csv_rows(chunks: Iterable[str], path: Path, column: str) -> Iterator[list[str]]:
    """The texts of a CSV file with a header."""
    # Not by `datasets`: pandas reads the texts NA, null and "" as missing and 1.0 as a number, for a start.
    csv.field_size_limit(sys.maxsize)  # the module's own, 128 KiB, is less than an article
    lines = (line + "\n" for lines in _line_lists(chunks) for line in lines)
    reader = csv.reader(lines, strict=True)
    try:
        header = next((row for row in reader if row), None)
        if header is None:
            return
        if column not in header:
            raise no_column(path, column, header)
        index = header.index(column)
        rows, size = [], 0
        for row in reader:
            if len(row) != len(header):
                if not row:  # a blank line
                    continue
                raise UserError(f"{path}, line {reader.line_num}: has {len(row)} fields instead of {len(header)}")
            rows.append(row[index])
            size += len(row[index])
            if size >= packed.CHUNK_BYTES // 8:
                yield rows
                rows, size = [], 0
        yield rows
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def parquet_rows(file: BinaryIO, path: Path, column: str, cache_dir: Path) -> Iterator[list[str]]:
    """The texts of a parquet file; a compressed one is unpacked to a nameless file in `cache_dir` first."""
    # By pyarrow, as `datasets` does it too, so that an error names the file and nothing is copied to a cache.
    import pyarrow as pa  # slow to import, and seldom needed
    import pyarrow.parquet as pq

    packed = path.suffix.lower() in COMPRESSED
    number = 0
    with _unpacked(file, path, cache_dir) if packed else nullcontext(file) as plain:
        try:
            table = pq.ParquetFile(plain, buffer_size=1 << 20)
            if column not in table.schema_arrow.names:
                raise no_column(path, column, table.schema_arrow.names)
            groups = [table.metadata.row_group(index) for index in range(table.num_row_groups)]
            row_bytes = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
            for batch in table.iter_batches(rows_at_once(row_bytes), columns=[column]):
                rows = batch.column(0).to_pylist()
                check_texts(rows, f"{path}, row", number, column)
                number += len(rows)
                yield rows
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: damaged, or not parquet ({reason})") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}: a text soon after row {number:,} is not UTF-8") from None


def _unpacked(file: BinaryIO, path: Path, cache_dir: Path) -> BinaryIO:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        plain = tempfile.TemporaryFile(dir=cache_dir)  # noqa: SIM115 (its reader closes it)
        for block in read_bytes(file, path):
            plain.write(block)
        plain.seek(0)
    except OSError as error:
        raise MachineError(f"{path}: cannot be unpacked in cache_dir {cache_dir} ({error.strerror})") from None
    return plain


def rows_at_once(row_bytes: int) -> int:
    """How many rows of about `row_bytes` to turn into texts at once."""
    return min(10_000, packed.CHUNK_BYTES // 4 // (row_bytes + 1) + 1)


def check_texts(rows: list, place: str, number: int, column: str) -> None:
    """Raise UserError for the first row that isn't a text; `number` rows came before these."""
    for index, row in enumerate(rows, number + 1):
        if not isinstance(row, str):
            what = "missing" if row is None else f"not a text but {row!r:.40}"
            raise UserError(f"{place} {index:,}: {column!r} is {what}")


def no_column(place: object, column: str, columns: list[str]) -> UserError:
    """The error for a table without the text column."""
    return UserError(f"{place}: has no column {column!r}, only {', '.join(map(repr, columns))}; set text_column")
