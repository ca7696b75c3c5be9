"""One run in an output_dir at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from clm.errors import UserError
from clm.launch import processes
from clm.launch.lock_file import LOCK_FILE, NO_LOCKS_HERE
from clm.progress import Say


@contextmanager
def held(output_dir: Path, say: Say) -> Iterator[None]:
    """Make `output_dir` and hold its lock, for all processes of a run. A folder that stays empty is deleted again.

    The kernel releases the lock when its process ends, however it ends. So a lock file that a dead process has left
    does no harm, on NFS 4 and Lustre (mounted with flock) too. Where a file system has no locks, a warning says so.

    Raises:
        UserError: another run holds it, or the folder can't be made or written.
    """
    files: list[TextIO] = []
    made = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    try:
        processes.on_main(lambda: files.append(_take(output_dir, say)))
        yield
    finally:
        for file in files:
            (output_dir / LOCK_FILE).unlink(missing_ok=True)
            file.close()
        if processes.main_process():
            for folder in made:
                with suppress(OSError):  # not empty
                    folder.rmdir()


def _take(output_dir: Path, say: Say) -> TextIO:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        return _lock(output_dir / LOCK_FILE, say)
    except OSError as error:
        raise UserError(
            f"output_dir {output_dir}: can't be written ({error.strerror}); set another output_dir"
        ) from None


def _lock(path: Path, say: Say) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"output_dir {path.parent}: {holder} is running there; wait for it, stop it, or set another output_dir"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                raise
            say(f"warning: {path.parent} is on a file system without locks: don't start a second run in it")
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # its holder has just removed it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
