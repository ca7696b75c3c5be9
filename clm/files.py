"""Files that are there whole or not at all, and folders that go again where they turn out to be of no use."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from clm.errors import UserError

STAGED_FILES = ".*.tmp-*"  # what `write_bytes` writes and renames, as a pattern


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to disk, then rename."""
    staging = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with staging.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file to disk, or a folder's list of names, without which a new or renamed file can be lost."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any | None:
    """The JSON at `path`; None where there is none that can be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


class Made:
    """What a run makes before its input is known to be good: as a context, a UserError takes it away again.

    A folder that somebody else built, or is building, stays.
    """

    def __init__(self) -> None:
        self._built: set[Path] = set()
        self._locked: list[Path] = []
        self._parents: set[Path] = set()

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Make the folders above `folder` and hold its lock."""
        self._parents.update(parent for parent in folder.parents if not parent.exists())
        self._locked.append(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_file(folder)):
            yield

    def built(self, folder: Path) -> None:
        """Note that `folder` is there now, and is ours."""
        self._built.add(folder)

    def __enter__(self) -> "Made":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, UserError):
            self._take_back()

    def _take_back(self) -> None:
        for folder in self._locked:
            with suppress(OSError), FileLock(_lock_file(folder), blocking=False):
                if folder in self._built:
                    shutil.rmtree(folder)
                if not folder.exists():
                    _lock_file(folder).unlink()
        for parent in sorted(self._parents, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # not empty
                parent.rmdir()


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
