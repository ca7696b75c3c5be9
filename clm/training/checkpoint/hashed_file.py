"""A file that is hashed while it is written, and that leaves the CPU and its caches to the training beside it."""

import errno
import fcntl
import hashlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

_PIECE = 2 * 2**20  # bytes; a multiple of every disk's block
_DIRECT = getattr(os, "O_DIRECT", 0)


class HashedFile:
    """Written once from front to end, then flushed to disk; as a context, closed at its end.

    Bytes go through one aligned piece of memory. There they are hashed while the CPU's cache still holds them, and from
    there the disk takes them itself, where the file system lets it (O_DIRECT): the system's own copy of a gigabyte in
    memory, and the work of writing that copy out, would be taken from training.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._size, self._hash = path, 0, hashlib.sha256()
        self._memory = mmap.mmap(-1, _PIECE)
        self._piece, self._filled = np.frombuffer(self._memory, np.uint8), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            self._handle, self._direct = os.open(path, flags | _DIRECT, 0o666), bool(_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._handle, self._direct = os.open(path, flags, 0o666), False

    def write(self, data: Any) -> int:
        """Append bytes; as of any file, how many those were."""
        data, done = np.frombuffer(data, np.uint8), 0
        while done < len(data):
            count = min(_PIECE - self._filled, len(data) - done)
            self._piece[self._filled : self._filled + count] = data[done : done + count]
            self._filled, done = self._filled + count, done + count
            if self._filled == _PIECE:
                self._empty()
        return len(data)

    def flush(self) -> None:
        """Nothing: what is written is on the disk at the end, and no sooner."""

    @property
    def facts(self) -> dict[str, Any]:
        """The `size` and `sha256` of what was written; once it is closed, of the file."""
        return {"size": self._size, "sha256": self._hash.hexdigest()}

    def _empty(self) -> None:
        piece, done = memoryview(self._memory)[: self._filled], 0
        self._hash.update(piece)
        if self._filled < _PIECE:
            self._no_longer_direct()  # which only takes whole blocks
        while done < len(piece):
            try:
                done += os.write(self._handle, piece[done:])
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise OSError(error.errno, error.strerror, str(self._path)) from None
                self._no_longer_direct()
        self._size, self._filled = self._size + self._filled, 0

    def _no_longer_direct(self) -> None:
        if self._direct:
            fcntl.fcntl(self._handle, fcntl.F_SETFL, fcntl.fcntl(self._handle, fcntl.F_GETFL) & ~_DIRECT)
            self._direct = False

    def __enter__(self) -> "HashedFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._empty()
                os.fsync(self._handle)
        finally:
            os.close(self._handle)
