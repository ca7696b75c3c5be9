"""Rows of JSON lines, CSV and parquet to lists of texts, with errors that name the line or row."""

import csv
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from clm.data import documents
from clm.data.decoding import COMPRESSED, read_bytes
from clm.errors import MachineError, UserError


def json_rows(chunks: Iterable[str], path: Path, column: str) -> Iterator[list[str]]:
    number = 0
    for lines in _line_lists(chunks):
        rows = []
        for line in lines:
            number += 1
            if line and not line.isspace():
                rows.append(_json_text(line, f"{path}, line {number}", column))
        yield rows


def _line_lists(chunks: Iterable[str]) -> Iterator[list[str]]:
    """The lines of a text without their `\\n`, a list a chunk; json and csv take care of `\\r`."""
    pending: list[str] = []
    for chunk in chunks:
        first, *lines = chunk.split("\n")
        pending.append(first)
        if lines:
            yield ["".join(pending), *lines[:-1]]
            pending = [lines[-1]]
    if last := "".join(pending):
        yield [last]


def _json_text(line: str, place: str, column: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error}); one object a line is needed") from None
    if not isinstance(row, dict):
        raise UserError(f'{place}: not an object; lines like {{"{column}": "…"}} are needed')
    if column not in row:
        raise UserError(f"{place}: has no {column!r}, only {', '.join(map(repr, row))}; set text_column")
    text = row[column]
    if not isinstance(text, str):
        raise UserError(f"{place}: {column!r} is not a text but {json.dumps(text)[:40]}")
    if "\\u" in line:  # nothing else can make a surrogate
        try:
            text.encode()
        except UnicodeEncodeError as error:
            surrogate = ord(text[error.start])
            raise UserError(f"{place}: {column!r} holds the lone surrogate \\u{surrogate:04x}") from None
    return text


def csv_rows(chunks: Iterable[str], path: Path, column: str) -> Iterator[list[str]]:
    # Not by `datasets`: pandas reads the texts NA, null and "" as missing and 1.0 as a number, for a start.
    csv.field_size_limit(sys.maxsize)  # the module's own, 128 KiB, is less than an article
    lines = (line + "\n" for lines in _line_lists(chunks) for line in lines)
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        if column not in header:
            raise no_column(path, column, header)
        index = header.index(column)
        rows, size = [], 0
        for row in reader:
            if len(row) != len(header):
                if not row:  # a blank line
                    continue
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, but the first line names {len(header)}"
                )
            rows.append(row[index])
            size += len(row[index])
            if size >= documents.CHUNK_BYTES // 8:
                yield rows
                rows, size = [], 0
        yield rows
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def parquet_rows(file: BinaryIO, path: Path, column: str, cache_dir: Path) -> Iterator[list[str]]:
    # By pyarrow, which `datasets` reads parquet with, so that an error can name the file and nothing is copied
    # into a cache.
    import pyarrow as pa  # slow to import, and seldom needed
    import pyarrow.parquet as pq

    if path.suffix.lower() in COMPRESSED:
        file = _unpacked(file, path, cache_dir)
    try:
        table = pq.ParquetFile(file, buffer_size=1 << 20)
        if column not in table.schema_arrow.names:
            raise no_column(path, column, table.schema_arrow.names)
        groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
        row_bytes = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
        batch_size = min(10_000, documents.CHUNK_BYTES // 4 // (row_bytes + 1) + 1)
        number = 0
        for batch in table.iter_batches(batch_size, columns=[column]):
            rows = batch.column(0).to_pylist()
            check_texts(rows, f"{path}, row", number, column)
            number += len(rows)
            yield rows
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: damaged, or not parquet ({reason})") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 within the {batch_size:,} rows after row {number} ({error.reason})"
        ) from None


def _unpacked(file: BinaryIO, path: Path, cache_dir: Path) -> BinaryIO:
    cache_dir.mkdir(parents=True, exist_ok=True)
    plain = tempfile.TemporaryFile(dir=cache_dir)
    for block in read_bytes(file, path):
        plain.write(block)
    plain.seek(0)
    return plain


def check_texts(rows: list, place: str, number: int, column: str) -> None:
    """Raise UserError for the first row that isn't a text; the first of `rows` comes after `number` others."""
    for index, row in enumerate(rows, number + 1):
        if not isinstance(row, str):
            raise UserError(
                f"{place} {index:,}: {column!r} is not a text but {'missing' if row is None else repr(row)[:40]}"
            )


def no_column(path: Path, column: str, columns: list[str]) -> UserError:
    return UserError(
        f"{path}: has no column {column!r}, only {', '.join(map(repr, columns))}; set text_column"
    )
