"""Tables in text: CSV, and the like with tabs, semicolons or bars between the columns, to lists of texts."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from clm.data.sources import packed
from clm.data.sources.documents import Notes
from clm.data.sources.readers.columns import line_lists, no_column, sample
from clm.errors import UserError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?')
_LOOKED_AT = 100  # rows of the beginning


def table_rows(
    chunks: Iterable[str], place: str, column: str, delimiter: str | None, notes: Notes
) -> Iterator[list[str]]:
    """The texts of a table with a header.

    Args:
        delimiter: what stands between columns; none: found by the header and the first rows, a comma where it may be.
    """
    # Not by `datasets`: pandas reads the texts NA, null and "" as missing and 1.0 as a number, for a start.
    csv.field_size_limit(sys.maxsize)  # the module's own, 128 KiB, is less than an article
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter)
    lists = line_lists(chunks)
    first = next(lists, [])
    if first and (named := _SEPARATOR_LINE.fullmatch(first[0])):  # for Excel, and no part of the table
        delimiter, first = delimiter or named[1], ["", *first[1:]]
        notes.add(f"begins with a line that names {DELIMITERS.get(named[1], named[1])}, and was read so", place)
    if delimiter is None:
        delimiter = _delimiter(first, column, place)
        if delimiter != ",":
            notes.add(f"has {DELIMITERS[delimiter]} between its columns, and was read so", place)
    lines = (line + "\n" for lines in chain([first], lists) for line in lines)
    quoting = csv.QUOTE_MINIMAL if delimiter != "\t" or _quoted(first) else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        yield from _texts(reader, place, column, notes)
    except csv.Error as error:
        returns = "; its lines end in bare carriage returns: tr '\\r' '\\n' < FILE" if "new-line" in str(error) else ""
        raise UserError(f"{place}, line {reader.line_num:,}: is not CSV ({error}){returns}") from None


def _texts(reader: Any, place: str, column: str, notes: Notes) -> Iterator[list[str]]:
    header = next((row for row in reader if row), None)
    if header is None:
        return
    if column not in header:
        row = next((row for row in reader if row), [])
        samples = [*map(sample, row), *[""] * len(header)]
        raise UserError(f"{no_column(place, column, zip(header, samples, strict=False))}; its first line names them")
    if header.count(column) > 1:
        notes.add(f"has {header.count(column)} columns {column!r}, and the first of them was read", place)
    index = header.index(column)
    rows, size = [], 0
    for row in reader:
        if len(row) != len(header):
            if not row:  # a blank line
                continue
            raise UserError(f"{place}, line {reader.line_num}: has {len(row)} fields instead of {len(header)}")
        rows.append(row[index])
        size += len(row[index])
        if size >= packed.CHUNK_BYTES // 8:
            yield rows
            rows, size = [], 0
    yield rows


def _delimiter(lines: list[str], column: str, place: str) -> str:
    """The delimiter under which the header has the column; else the one that gives most columns, all rows alike."""
    headers = {delimiter: _head(lines, delimiter) for delimiter in DELIMITERS}
    widths = {delimiter: len(rows[0]) for delimiter, rows in headers.items() if rows and len(set(map(len, rows))) == 1}
    likely = max(widths, key=lambda delimiter: widths[delimiter], default=",")
    if widths.get(likely, 1) > 1 and likely in column and headers[","][:1] == [[column]]:
        named = ", ".join(map(repr, headers[likely][0]))
        raise UserError(f"{place}: has {DELIMITERS[likely]} between its columns; set text_column to one of: {named}")
    having = [delimiter for delimiter, rows in headers.items() if rows and column in rows[0]]
    return having[0] if having else likely


def _head(lines: list[str], delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    quoting = csv.QUOTE_MINIMAL if delimiter != "\t" or _quoted(lines) else csv.QUOTE_NONE
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, quoting=quoting, strict=True)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) == _LOOKED_AT:
                break
    except csv.Error:
        pass  # a row that isn't whole yet, or the wrong delimiter
    return rows


def _quoted(lines: list[str]) -> bool:
    """Whether quotes in a table with tabs are its own, and not the texts'.

    Most programs that write such tables quote nothing, and a quote there is a letter as any other. Those that do
    quote the header too, or what they must: a field with a tab or a line end, without which rows differ in width, or
    one with quotes, which they double.
    """
    rows = [line.rstrip("\r").split("\t") for line in lines[:_LOOKED_AT] if line.rstrip("\r")]
    if not rows:
        return False
    in_quotes = [field for row in rows for field in row if len(field) > 1 and field[0] == field[-1] == '"']
    widths_differ = any(len(row) != len(rows[0]) for row in rows)
    return (
        all(field in in_quotes for field in rows[0])
        or any('""' in field[1:-1] and '"' not in field[1:-1].replace('""', "") for field in in_quotes)
        or (widths_differ and any(field.startswith('"') for row in rows for field in row))
    )
