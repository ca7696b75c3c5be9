"""Files that are there whole or not at all."""

import json
import math
import os
from pathlib import Path
from typing import Any

STAGED_FILES = ".*.tmp-*"  # a pattern for the staging files of `write_bytes`


def write_bytes(path: Path, content: bytes) -> None:
    """Write a staging file beside `path`, flush it to disk, and rename it."""
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
    """Flush a file to disk, or a folder's list of names: without that a new or renamed file can be lost."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all. A number that isn't finite, which JSON has not, is null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same value, with None for each number in it that is infinite or not a number."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any | None:
    """The JSON at `path`; None where there is none that can be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object at `path`; empty where there is none that can be read."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}
