"""Places that can't be written, found before any work."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from clm.errors import UserError


def check_writable(key: str, folder: Path) -> None:
    """Stop before any work if `folder`, which is the recipe's `key`, can't be written.

    Raises:
        UserError: it, or the folder it would be made in, isn't a writable folder.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{key} {folder}: {existing} is a file; set another {key}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{key} {folder}: no permission to write in {existing}; set another {key}")
    try:  # root may write anywhere, it seems, but not on a read-only disk, nor in /proc
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{key} {folder}: {existing} can't be written ({error.strerror}); set another {key}") from None


def check_output(path: Path, name: str = "--output") -> None:
    """Stop before any work if no file can be written at `path`, which is a command's option `name`.

    Raises:
        UserError: it is a folder, or is to lie in one that isn't there or can't be written.
    """
    if path.is_dir():
        raise UserError(f"{name} {path}: is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{name} {path}: there is no folder {path.parent}")
    check_writable(name, path.absolute().parent)
