"""Files as a source of documents: which files a recipe names, and reading them one after another."""

import os
import re
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO

from clm.data.sources.decoding import COMPRESSED, read_text, read_utf8
from clm.data.sources.documents import DOCUMENTS_VERSION, NoText, split, split_rows
from clm.data.sources.packed import Batch, gather
from clm.data.sources.paragraphs import paragraphs
from clm.data.sources.rows import csv_rows, json_rows, parquet_rows
from clm.errors import UserError

PART_BYTES = 128 << 20  # of files that are read as one part, on disk
FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


class FileSource:
    """Documents of one or more files; each file ends its last document."""

    def __init__(self, paths: list[Path], text_column: str, separator: str | None, cache_dir: Path) -> None:
        """Take the files in order. Compressed parquet is unpacked to a nameless file in `cache_dir`."""
        self.paths = paths
        self.text_column = text_column
        self.separator = separator
        self.cache_dir = cache_dir
        first = paths[0]
        self.name = safe_name(first.name.split(".")[0] if len(paths) == 1 else first.parent.name) or "text"
        self.origin = str(first) if len(paths) == 1 else f"{len(paths):,} files, {first} to {paths[-1].name}"
        self.size_bytes = sum(path.stat().st_size for path in paths)
        self.bytes_read = 0

    def fingerprint(self) -> dict:
        """Path, size and time of change of each file, and how they are read."""
        return {
            "files": [[str(path), *_state(path)] for path in self.paths],
            "text_column": self.text_column,
            "separator": self.separator,
            "documents": DOCUMENTS_VERSION,
        }

    def documents(self) -> Iterator[Batch]:
        """All documents, in order. Raises UserError for files that can't be read, or hold no text at all."""
        empty = True
        for batch in gather(self._batches()):
            empty = False
            yield batch
        if empty:
            raise NoText(f"{self.origin}: holds no text")

    def parts(self) -> list["FileSource"]:
        """Runs of files of about PART_BYTES each."""
        groups, size = [[]], 0
        for path in self.paths:
            if size >= PART_BYTES:
                groups, size = [*groups, []], 0
            groups[-1].append(path)
            size += _state(path)[0]
        return [FileSource(group, self.text_column, self.separator, self.cache_dir) for group in groups]

    def _batches(self) -> Iterator[Batch]:
        done = 0
        self.bytes_read = 0
        for path in self.paths:
            before = _state(path)
            try:
                with path.open("rb") as file:
                    for batch in self._read(file, path):
                        self.bytes_read = done + file.tell()
                        yield batch
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
            if _state(path) != before:
                raise UserError(f"{path}: changed while it was read; run again when it no longer does")
            done += before[0]
            self.bytes_read = done

    def _read(self, file: BinaryIO, path: Path) -> Iterator[Batch]:
        kind = _kind(path)
        if kind == "text" and self.separator == "blank_line":
            return paragraphs(read_utf8(file, path))
        if kind == "text":
            return split(read_text(file, path), self.separator)
        if kind == "parquet":
            rows = parquet_rows(file, path, self.text_column, self.cache_dir)
        else:
            rows = {"json": json_rows, "csv": csv_rows}[kind](read_text(file, path), path, self.text_column)
        return split_rows(rows, self.separator)


def find_files(patterns: str | list[str], key: str) -> list[Path]:
    """The files that paths, globs (`**` too) and folders name: absolute, sorted, each once.

    Raises UserError, naming the recipe's `key`, where one of them gives no file or an empty one.
    """
    found: dict[Path, Path] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = [file for file in path.rglob("*") if _is_known(file, path)]
            if not matches:
                raise UserError(f"{key}: the folder {path} has no file that ends in {', '.join(FORMATS)}")
        elif path.exists():
            matches = [path]
        elif has_magic(str(path)):
            names = glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
            matches = [Path(name) for name in names if Path(name).is_file()]
            if not matches:
                raise UserError(f"{key}: no file matches {pattern}")
        else:
            raise UserError(f"{key}: there is no file {path}")
        if all(file.stat().st_size == 0 for file in matches):
            raise UserError(f"{key}: {pattern} is empty")
        found.update((file.resolve(), file) for file in sorted(matches, reverse=True))
    # Not the resolved path: a link's own name says what is in it.
    return sorted(Path(os.path.abspath(file)) for file in found.values())  # noqa: PTH100


def safe_name(text: str) -> str:
    """A name that is safe as a folder's, made of letters, digits and `._-`."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def _is_known(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and _format_suffix(file) in FORMATS and file.is_file()


def _format_suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).suffix.lower()


def _kind(path: Path) -> str:
    return FORMATS.get(_format_suffix(path), "text")


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return status.st_size, status.st_mtime_ns
