"""The manifest of a checkpoint: the size and SHA-256 of its files, by which damage is seen."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clm.files import read_json_object, sync, write_json

MANIFEST = "checkpoint.json"


def fingerprint(value: Any) -> str:
    """A SHA-256 that is the same for equal JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write(folder: Path, facts: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> None:
    """Flush every file in `folder` to disk, then write their sizes and SHA-256 with `facts` as its manifest.

    Args:
        known: size and SHA-256 of files that were flushed and hashed as they were written.
    """
    files = {path.name: known.get(path.name) or _flushed(path) for path in sorted(folder.iterdir())}
    manifest = {**facts, "files": files}
    # The key is called so in checkpoints from before, too.
    write_json(folder / MANIFEST, {**manifest, "seal": fingerprint(manifest)})
    sync(folder)


def _flushed(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def manifest_of(folder: Path) -> dict[str, Any]:
    """What the manifest in `folder` says; empty where there is none that can be read."""
    return read_json_object(folder / MANIFEST)


def fault(folder: Path) -> str | None:
    """Why a checkpoint can't be trusted, in a few words; None for one whose every byte is as it was written."""
    manifest = manifest_of(folder)
    if not manifest:
        return f"it has no {MANIFEST} that can be read" if any(folder.glob("*")) else "it is empty"
    said = manifest.pop("seal", None)
    if said != fingerprint(manifest):
        return f"its {MANIFEST} is damaged"
    if folder.name.rpartition("-")[2] not in (str(manifest["step"]), f"{manifest['step']}.tmp"):
        return f"it holds step {manifest['step']}"
    missing = [name for name in manifest["files"] if not (folder / name).is_file()]
    if missing:
        return f"it lacks {', '.join(missing)}"
    return next(filter(None, (_damage(folder / name, was) for name, was in manifest["files"].items())), None)


def _damage(path: Path, was: dict[str, Any]) -> str | None:
    size = path.stat().st_size
    if size != was["size"]:
        return f"{path.name} has {size:,} of {was['size']:,} bytes"
    try:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == was["sha256"]
    except OSError as error:
        return f"{path.name} can't be read ({error.strerror})"
    return None if same else f"{path.name} isn't what was written (its SHA-256 differs)"
