"""Parquet, and columns of Arrow in general, to lists of texts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clm.data.sources import packed
from clm.data.sources.documents import Notes
from clm.data.sources.readers.columns import choices, no_column, note_nulls
from clm.data.sources.readers.compression import Content
from clm.errors import MachineError, UserError

if TYPE_CHECKING:
    import pyarrow as pa


def parquet_rows(content: Content, column: str, cache_dir: Path, notes: Notes) -> Iterator[list[str]]:
    """The texts of a parquet file; one inside another is unpacked to a nameless file in `cache_dir` first."""
    # By pyarrow, as `datasets` does it too, so that an error names the file and nothing is copied to a cache.
    import pyarrow as pa  # slow to import, and seldom needed
    import pyarrow.parquet as pq

    place, number = content.place, 0
    plain = content.file or _spooled(content, cache_dir)
    try:
        table = pq.ParquetFile(plain, buffer_size=1 << 20)
        names = path_to(column, table.schema_arrow, place)
        groups = [table.metadata.row_group(index) for index in range(table.num_row_groups)]
        row_bytes = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
        for batch in table.iter_batches(rows_at_once(row_bytes), columns=[column]):
            yield texts_of(batch.column(0), names, f"{place}, row", number, notes)
            number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{place}: is damaged, or not parquet ({reason})") from None
    finally:
        if plain is not content.file:
            plain.close()


def _spooled(content: Content, cache_dir: Path) -> BinaryIO:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        plain = tempfile.TemporaryFile(dir=cache_dir)  # noqa: SIM115 (its reader closes it)
        for block in content.blocks:
            plain.write(block)
        plain.seek(0)
    except OSError as error:
        raise MachineError(f"{content.place}: cannot be unpacked in cache_dir {cache_dir} ({error.strerror})") from None
    return plain


def rows_at_once(row_bytes: int) -> int:
    """How many rows of about `row_bytes` to turn into texts at once."""
    return min(10_000, packed.CHUNK_BYTES // 4 // (row_bytes + 1) + 1)


def path_to(column: str, schema: "pa.Schema", place: str) -> list[str]:
    """The names that lead to a column of texts: its own, or those of structs and a field in them (doc.text).

    Raises UserError where there is none, or it holds something else.
    """
    import pyarrow as pa

    names = [column] if column in schema.names else column.split(".")
    kind: Any = pa.struct(list(schema))
    for name in names:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            raise no_column(place, column, described(schema))
        kind = kind.field(name).type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (_is_text(inner) or _is_binary(inner) or pa.types.is_null(inner)):
        joined = pa.types.is_nested(kind) and not pa.types.is_struct(kind)
        advice = "write the table anew with each joined to one text" if joined else choices(described(schema))
        raise UserError(f"{place}: {column!r} is {kind}, not text; {advice}")
    return names


def described(schema: "pa.Schema") -> list[tuple[str, str]]:
    """The columns and the fields of structs in them, each with its type."""
    import pyarrow as pa

    def fields(kind: Any, before: str) -> Iterator[tuple[str, str]]:
        for field in kind:
            if pa.types.is_struct(field.type):
                yield from fields(field.type, f"{before}{field.name}.")
            else:
                yield f"{before}{field.name}", str(field.type)

    return list(fields(schema, ""))


def texts_of(column: Any, names: list[str], place: str, number: int, notes: Notes) -> list[str]:
    """The texts of an Arrow column, or of the field that `names` lead to in it; nulls are left out.

    Args:
        place: what stands before a row's number in messages.
        number: rows that came before these.

    Raises:
        UserError: bytes that aren't UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in names[1:]:
        column = pc.struct_field(column, name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    try:
        if _is_binary(kind):
            column = column.cast(pa.large_binary()).cast(pa.large_string())
        rows = column.to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raise UserError(f"{place} {number + 1:,} or soon after: {'.'.join(names)!r} is not UTF-8") from None
    if column.null_count:
        first = rows.index(None)
        note_nulls(notes, ".".join(names), f"{place} {number + first + 1:,}", column.null_count)
        rows = [row for row in rows if row is not None]
    return rows


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )
