"""What the tests of readers share: write a file, read it, and what was noted or refused meanwhile."""

from pathlib import Path

import pytest

from clm.data.sources.files import FileSource, Reading
from clm.errors import UserError


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def source_of(path: Path, **how) -> FileSource:
    return FileSource([path], Reading(**how), path.parent / "cache")


def read(path: Path, **how) -> tuple[list[str], list[str]]:
    """The documents, pieces of long ones apart, and the notes, the file's path in them as PATH."""
    source = source_of(path, **how)
    texts = [text for batch in source.documents() for text in batch.texts]
    return texts, [line.replace(f"{path}", "PATH") for line in source.notes.lines]


def refusal(path: Path, **how) -> str:
    """The one line that reading the file ends with."""
    with pytest.raises(UserError) as caught:
        read(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path}", "PATH")
