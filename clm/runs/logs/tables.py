"""Logs of rows with names: CSV, as W&B, trackio and Lightning write it too, and JSON documents."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from clm.runs.logs.collect import Collector, as_number
from clm.runs.logs.columns import LOSSES, classify
from clm.runs.logs.stream import LONGEST, Stream

DELIMITERS = ",\t;"
FIRST_LINES = 50  # among which a table's names are looked for
VALUE = "value"  # the one column of losses of TensorBoard's own CSV export
_DOCUMENT = re.compile(r"\s*\[\s*\{|\s*\{\s*\n")
_MAX_STEPS = re.compile(r'"max_steps"\s*:\s*(\d{1,9})\b')


def delimiter_of(head: str) -> tuple[str, str] | None:
    """The line of names and the delimiter of a CSV that begins so; None where it is none.

    Its names are no numbers, a loss is among them, and the line after them has as many fields, one of them a number.
    """
    lines = [line for line in head.splitlines()[:FIRST_LINES] if line.strip()]
    for line, after in pairwise(lines):
        for delimiter in DELIMITERS:
            names, values = _fields(line, delimiter), _fields(after, delimiter)
            if len(names) < 2 or len(names) != len(values) or any(as_number(name) is not None for name in names):
                continue
            if any(as_number(value) is not None for value in values) and any(map(_is_loss, names)):
                return line, delimiter
    return None


def take_csv(stream: Stream, names_line: str, delimiter: str, into: Collector) -> int:
    """Every row of a CSV; the number of lines that weren't any is returned.

    Where names follow again, they are those of the rows after them: trackio's export has one metric a file, and files
    are joined.
    """
    skipped, lines = 0, stream.lines()
    for line in lines:
        if line == names_line:
            break
        skipped += bool(line.strip())
    names, columns = _heading(_fields(names_line, delimiter), into)
    for fields in _rows(lines, delimiter):
        if _is_heading(fields):
            names, columns = _heading(fields, into)
        elif len(fields) == len(names):
            into.take({name: fields[place] for name, place in columns})
        elif any(field.strip() for field in fields):
            skipped += 1
    return skipped


def is_json(head: str) -> bool:
    """Whether it begins as a JSON document with rows in it: a trainer_state.json, or a list of objects."""
    return '"log_history"' in head[:LONGEST] or bool(_DOCUMENT.match(head))


def take_json(stream: Stream, into: Collector) -> None:
    """The entries of a trainer_state.json's log_history, or of a list of rows."""
    for row in stream.objects():
        into.take(row)
    found = _MAX_STEPS.search(stream.tail) or _MAX_STEPS.search(stream.head)
    into.says_total(int(found[1]) if found else None)


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader((line[:LONGEST].replace("\0", "") for line in lines), delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line[:LONGEST]], delimiter=delimiter), [])
    except csv.Error:
        return []


def _heading(fields: Sequence[str], into: Collector) -> tuple[Sequence[str], list[tuple[str, int]]]:
    """The names of a table's columns, and name and place of those that matter."""
    names = _names(fields)
    into.take(dict.fromkeys(names))  # so that all of them are known
    return names, [(name, place) for place, name in enumerate(names) if classify(name)]


def _is_heading(fields: Sequence[str]) -> bool:
    """Whether a row has the names of a table: no number, but a step and a loss among them."""
    if any(as_number(field) is not None for field in fields):
        return False
    kinds = {column.kind for name in fields if (column := classify(name))}
    return "steps" in kinds and any(map(_is_loss, fields))


def _names(fields: Sequence[str]) -> Sequence[str]:
    """The names of the columns; a lone column of values is one of losses."""
    if any((column := classify(name)) and column.kind in LOSSES for name in fields):
        return fields
    return ["loss" if name.strip().lower() == VALUE else name for name in fields]


def _is_loss(name: str) -> bool:
    column = classify(name)
    return name.strip().lower() == VALUE or (column is not None and column.kind in LOSSES)
