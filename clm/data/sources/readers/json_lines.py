"""JSON lines to lists of texts, with errors that name the line and say what is there instead of a text."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clm.data.sources.documents import Notes
from clm.data.sources.readers.columns import choices, line_lists, note_nulls, sample, shape
from clm.errors import UserError

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_rows(chunks: Iterable[str], place: str, column: str, notes: Notes) -> Iterator[list[str]]:
    """The texts of JSON lines. `column` may lead into objects, as doc.text does; rows where it is null are left out."""
    number = 0
    for lines in line_lists(chunks):
        rows = []
        for line in lines:
            number += 1
            if line and not line.isspace():
                try:
                    text = _json_text(line, column)
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{place}, line {number:,}: {error}") from None
                if text is None:
                    note_nulls(notes, column, f"{place}, line {number:,}")
                else:
                    rows.append(text)
        yield rows


def _json_text(line: str, column: str) -> str | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg}, column {error.colno}); {_one_a_line(line)}") from None
    if not isinstance(row, dict):
        raise ValueError(f"is {shape(row)}, not an object; {_one_a_line(line, column)}")
    text = row.get(column)
    if text is None and column not in row:
        text = _reach(row, column)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{column!r} is {shape(text)}, not a text; {_other_column(row, column, text)}")
    if text is not None and "\\u" in line and (surrogate := _SURROGATE.search(text)):  # only an escape makes one
        raise ValueError(f"{column!r} holds a lone surrogate, \\u{ord(surrogate[0]):04x}, which is no character")
    return text


def _one_a_line(line: str, column: str = "text") -> str:
    begun = line.lstrip()[:1]
    if begun == "[":
        return "one object a line is needed, and a list of them is made so by: jq -c '.[]' FILE"
    if begun == "{" and line.rstrip().endswith("},"):
        return "no comma stands after an object here: sed 's/,[[:space:]]*$//' FILE takes it away"
    if begun == "{" and "\r" in line.rstrip():
        return "its lines end in bare carriage returns: tr '\\r' '\\n' < FILE"
    if line.strip() == "{":
        return "one object a line is needed, and objects over several lines are made so by: jq -c . FILE"
    return f'one object a line is needed, like {{"{column}": "…"}}'


def _reach(row: dict, column: str) -> Any:
    """The value at the end of a path through objects; None where the path ends in a null before."""
    value: Any = row
    for name in column.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"has no {column!r}; {_list_within(row, column) or _columns(row)}")
        value = value[name]
    return value


def _list_within(row: dict, column: str) -> str | None:
    """How to make lines of a file that is one object, with its rows in a list."""
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], dict) and column in value[0]:
            return f"its rows are in the list {name!r}, and are made lines by: jq -c '.{name}[]' FILE"
    return None


def _columns(row: Mapping[str, Any]) -> str:
    return choices((name, sample(value)) for name, value in _flat(row))


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict) and value and before.count(".") < 3:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _other_column(row: dict, column: str, value: Any) -> str:
    """What to do about a value that isn't a text: which column has one, or how to make one of a list."""
    if not isinstance(value, list):
        return choices((name, sample(other)) for name, other in _flat(row) if name != column)
    inner = next((name for name in ("content", "text", "value") if value and name in value[0]), None) if all(
        isinstance(one, dict) for one in value
    ) else None  # fmt: skip
    each, between = (f".{column}[].{inner}", "\\n\\n") if inner else (f".{column}[]", "\\n")
    return f"""join each to one text first, for example: jq -c '{{text: ([{each}] | join("{between}"))}}' FILE"""
