"""Files as a source of documents: which files a recipe names, and reading them one after another."""

import os
import re
from collections.abc import Iterator
from glob import escape, glob, has_magic
from pathlib import Path
from typing import NamedTuple

from clm.data.sources.documents import DOCUMENTS_VERSION, Notes, NoText, split, split_rows
from clm.data.sources.packed import NEVER, Batch, gather
from clm.data.sources.paragraphs import paragraphs
from clm.data.sources.readers import formats
from clm.data.sources.readers.archives import members
from clm.data.sources.readers.compression import Content, opened
from clm.data.sources.readers.encodings import control_share, read_text, read_utf8
from clm.data.sources.readers.json_lines import json_rows
from clm.data.sources.readers.parquet import parquet_rows
from clm.data.sources.readers.tables import table_rows
from clm.data.sources.separators import NAMED_SEPARATORS
from clm.errors import UserError, one_line

PART_BYTES = 128 << 20  # of files that are read as one part, on disk
READING_VERSION = 2  # raise it when the same files would give other documents
SAMPLE_BYTES = 16 << 10  # of each batch: are they text?
MOST_CONTROL = 0.1  # share of control and replacement characters
FEW_CONTROL = 32  # that many are no fault, in however little text


class Reading(NamedTuple):
    """How files are read, where their bytes don't tell."""

    text_column: str = "text"
    separator: str | None = None
    text_encoding: str | None = None  # of text that isn't UTF-8
    csv_delimiter: str | None = None  # none: found out


class FileSource:
    """Documents of one or more files; each file ends its last document."""

    def __init__(self, paths: list[Path], how: Reading, cache_dir: Path) -> None:
        """Take the files in order. Compressed parquet is unpacked to a nameless file in `cache_dir`."""
        self.paths = paths
        self.how = how
        self.cache_dir = cache_dir
        first = paths[0]
        self.name = safe_name(first.name.split(".")[0] if len(paths) == 1 else first.parent.name) or "text"
        self.origin = one_line(first if len(paths) == 1 else f"{len(paths):,} files, {first} to {paths[-1].name}")
        self.size_bytes = sum(path.stat().st_size for path in paths)
        self.bytes_read = 0
        self.notes = Notes()

    def fingerprint(self) -> dict:
        """Path, size and time of change of each file, and how they are read."""
        return {
            "files": [[str(path), *_state(path)] for path in self.paths],
            **self.how._asdict(),
            "documents": DOCUMENTS_VERSION,
            "reading": READING_VERSION,
        }

    def documents(self) -> Iterator[Batch]:
        """All documents, in order. Raises UserError for files that can't be read, or hold no text at all."""
        empty = True
        for batch in gather(self._batches()):
            empty = False
            yield batch
        if empty:
            raise NoText("; ".join([f"{self.origin}: holds no text", *self.notes.lines]))

    def parts(self) -> list["FileSource"]:
        """Runs of files of about PART_BYTES each."""
        groups, size = [[]], 0
        for path in self.paths:
            if size >= PART_BYTES:
                groups, size = [*groups, []], 0
            groups[-1].append(path)
            size += _state(path)[0]
        return [FileSource(group, self.how, self.cache_dir) for group in groups]

    def _batches(self) -> Iterator[Batch]:
        done = 0
        self.bytes_read, self.notes = 0, Notes()
        for path in self.paths:
            before = _state(path)
            try:
                with path.open("rb") as file:
                    content = opened(file, one_line(path), path.name, self.notes)
                    for one in members(content, self.notes):
                        looks = _Looks(one.place)
                        for batch in self._documents(one):
                            looks.check(batch.data)
                            self.bytes_read = done + file.tell()
                            yield batch
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
            if _state(path) != before:
                raise UserError(f"{path}: changed while it was read; run again when it no longer does")
            done += before[0]
            self.bytes_read = done

    def _documents(self, content: Content) -> Iterator[Batch]:
        how, place, notes = self.how, content.place, self.notes
        kind = formats.kind_of(content.name)
        if content.format in ("zip", "tar"):
            raise UserError(f"{place}: is an archive in an archive, whatever its name says; unpack it")
        if "parquet" in (content.format, kind):
            return split_rows(parquet_rows(content, how.text_column, self.cache_dir, notes), how.separator)
        if kind == "json":
            texts = read_text(content, how.text_encoding, notes)
            return split_rows(json_rows(texts, place, how.text_column, notes), how.separator)
        if kind == "table":
            texts = read_text(content, how.text_encoding, notes)
            return split_rows(table_rows(texts, place, how.text_column, how.csv_delimiter, notes), how.separator)
        if how.separator == "blank_line":
            return paragraphs(read_utf8(content, how.text_encoding, notes))
        texts = read_text(content, how.text_encoding, notes)
        if how.separator not in (None, *NAMED_SEPARATORS):
            texts = _looked_for(how.separator, texts, place, notes)
        return split(texts, how.separator)


def _looked_for(separator: str, texts: Iterator[str], place: str, notes: Notes) -> Iterator[str]:
    """The same chunks of a text; it is noted where the separator is in none of them."""
    found, before, chunk = False, "", ""
    for chunk in texts:
        found = found or separator in before + chunk
        before = chunk[-len(separator) :]
        yield chunk
    if chunk and not found:
        shell = "; in a shell a line end is $'\\n'" if "\\n" in separator else ""
        notes.add(f"doesn't hold the document_separator {separator!r}, so it is one document{shell}", place)


class _Looks:
    """Whether what could be decoded is text, by a sample of each batch."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._controls = self._bytes = 0.0

    def check(self, data: bytes) -> None:
        """Raise UserError where too much of what was seen so far is control or replacement characters."""
        sample = data[:SAMPLE_BYTES].replace(NEVER, b"\n")
        self._controls += control_share(sample) * len(sample)
        self._bytes += len(sample)
        if self._controls > FEW_CONTROL and self._controls > MOST_CONTROL * self._bytes:
            raise UserError(
                f"{self._place}: {self._controls / self._bytes:.0%} of its characters are control or replacement "
                "characters: it isn't text, or was read in another encoding than it is in"
            )


class Found(NamedTuple):
    """Files that were named, and what there is to say about those that aren't read."""

    paths: list[Path]
    notes: list[str]


def find_files(patterns: str | list[str], key: str) -> Found:
    """The files that paths, globs (`**` too) and folders name: absolute, sorted, each once.

    Raises UserError, naming the recipe's `key`, where one of them gives no file or an empty one, or a folder holds
    more that isn't read than is.
    """
    found: dict[Path, Path] = {}
    notes: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            path = Path(pattern).expanduser()
        except RuntimeError:
            raise UserError(f"{key}: {pattern}: there is no user of that name here") from None
        where = "" if path.is_absolute() else f" in {Path.cwd()}, from where relative paths start"
        if path.is_dir():
            matches = _in_folder(path, key, notes)
        elif path.is_file():
            matches = [path]
        elif path.exists():
            raise UserError(f"{key}: {path} is a pipe or a device, which can't be read twice; write its text to a file")
        elif path.is_symlink():
            raise UserError(f"{key}: {path} is a link to {path.readlink()}, which isn't there")
        elif has_magic(str(path)):
            names = glob(_literal_where_it_exists(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute one)
            matches = [Path(name) for name in names if Path(name).is_file()]
            if not matches:
                brackets = "; brackets stand for one of the characters in them: write [[] for a [" * ("[" in pattern)
                raise UserError(f"{key}: no file matches {pattern}{where}{brackets}{_slashes(pattern)}")
        else:
            raise UserError(f"{key}: there is no file {path}{where}{_slashes(pattern)}")
        if all(file.stat().st_size == 0 for file in matches):
            raise UserError(f"{key}: {pattern} is empty")
        found.update((file.resolve(), file) for file in sorted(matches, reverse=True))
    # Not the resolved path: a link's own name says what is in it.
    return Found(sorted(Path(os.path.abspath(file)) for file in found.values()), notes)  # noqa: PTH100


def _in_folder(folder: Path, key: str, notes: list[str]) -> list[Path]:
    """The files in a folder that are read, by their names."""
    sizes, links = {}, []
    for file in folder.rglob("*"):
        name = str(file.relative_to(folder))
        if file.is_file():
            sizes[name] = file.stat().st_size
        elif file.is_symlink() and not formats.hidden(name):
            links.append(name)
    place, advice = f"{key}: the folder {folder}", f"name the files that you want, for example {folder}/**/*.txt"
    said = f"links to folders, or to nothing, aren't followed: {', '.join(sorted(links)[:3])}{' …' * (len(links) > 3)}"
    chosen, left_out = formats.choose(sizes, place, f"{advice}; {said}" if links else advice)
    notes += [f"{place}: {line}" for line in (left_out, said if links else "") if line]
    return [folder / name for name in chosen]


def _slashes(pattern: str) -> str:
    r"""What to say of a path that is written as under Windows, C:\texts\a.txt."""
    return "; folders are parted by / here, as in /mnt/c/texts" if "\\" in pattern else ""


def _literal_where_it_exists(path: Path) -> str:
    """The pattern, but for the folders at its beginning that are there: brackets in their names are only brackets."""
    parts = list(path.parts)
    there = Path()
    while parts and (there / parts[0]).exists():
        there /= parts.pop(0)
    return str(Path(escape(str(there)), *parts))


def safe_name(text: str) -> str:
    """A name that is safe as a folder's, made of letters, digits and `._-`."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return status.st_size, status.st_mtime_ns
