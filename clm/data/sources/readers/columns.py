"""What rows have in common, whatever they come from: the text column, the others that there are, and nulls."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from clm.data.sources.documents import Notes
from clm.errors import UserError

_COLUMNS_SHOWN = 12


def no_column(place: str, column: str, columns: Iterable[tuple[str, str]]) -> UserError:
    """The error for a table without the text column; `columns` are those that it has, each with what it holds."""
    return UserError(f"{place}: has no column {column!r}; {choices(columns)}")


def choices(columns: Iterable[tuple[str, str]]) -> str:
    """What there is to choose from: names, each with what it holds."""
    shown = [f"{name!r} ({holds})" if holds else repr(name) for name, holds in columns]
    if not shown:
        return "there is no other"
    more = f" and {len(shown) - _COLUMNS_SHOWN:,} more" if len(shown) > _COLUMNS_SHOWN else ""
    return f"set text_column to one of: {', '.join(shown[:_COLUMNS_SHOWN])}{more}"


def note_nulls(notes: Notes, column: str, place: str, count: int = 1) -> None:
    """Note rows without a text, the first of them at `place`."""
    notes.add(f"{column!r} is null, and the row was left out", place, count)


def sample(value: Any) -> str:
    """The beginning of a text in quotes; of anything else, what it is."""
    if isinstance(value, str):
        shown = " ".join(value[:200].split())
        return json.dumps(shown if len(shown) <= 30 else shown[:29] + "…", ensure_ascii=False)
    return shape(value)


def shape(value: Any) -> str:
    """What a value is that isn't a text, in words."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:6])) or 'nothing in it'}"
    if isinstance(value, list):
        if not value:
            return "an empty list"
        if isinstance(value[0], dict):
            return f"a list of objects with {', '.join(map(repr, list(value[0])[:6]))}"
        names = {str: "texts", list: "lists", bool: "true and false", type(None): "nulls"}
        return f"a list of {names.get(type(value[0]), 'numbers')}"
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"a text, {sample(value)}"
    return f"{'' if isinstance(value, bool) else 'a number, '}{json.dumps(value)[:40]}"


def line_lists(chunks: Iterable[str]) -> Iterator[list[str]]:
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
