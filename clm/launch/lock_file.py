"""The lock file of a run's folder, as others see it."""

import errno
import fcntl
from pathlib import Path

LOCK_FILE = ".lock"
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what a file system without locks says


def taken(output_dir: Path) -> bool | None:
    """Whether a run holds the lock of `output_dir`; None where the file system has no locks, so nothing tells."""
    try:
        with (output_dir / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS_HERE:
            return None
        return error.errno == errno.EWOULDBLOCK
    return False
