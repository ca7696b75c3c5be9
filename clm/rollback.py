"""What a run builds before its input is known to be good is removed again where the input is bad."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from clm.errors import UserError


def lock_file(folder: Path) -> Path:
    """The file beside `folder` that processes lock before they write there."""
    return folder.with_name(f"{folder.name}.lock")


class Rollback:
    """The folders that a run builds. A UserError that leaves this context removes them again.

    A folder that another process has built, or is building, stays.
    """

    def __init__(self) -> None:
        self._built: set[Path] = set()
        self._locked: list[Path] = []
        self._parents: set[Path] = set()

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Hold the lock of `folder`. The folders above it are made, and are part of the rollback."""
        self._parents.update(parent for parent in folder.parents if not parent.exists())
        self._locked.append(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_file(folder)):
            yield

    def built(self, folder: Path) -> None:
        """Make `folder`, which this process has just built, part of the rollback."""
        self._built.add(folder)

    def __enter__(self) -> "Rollback":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, UserError):
            self._undo()

    def _undo(self) -> None:
        for folder in self._locked:
            with suppress(OSError), FileLock(lock_file(folder), blocking=False):
                if folder in self._built:
                    shutil.rmtree(folder)
                if not folder.exists():
                    lock_file(folder).unlink()
        for parent in sorted(self._parents, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # not empty
                parent.rmdir()
