"""The texts that the benchmark prepares, and the tokenizer that both ways are given; made once, kept in a folder."""

import re
import sys
from pathlib import Path

from clm.data import tokenizer
from clm.data.sources.files import FileSource, Reading
from clm.data.sources.python_docs import PythonDocs
from clm.progress import ByteProgress

VOCAB_SIZE = 32_000
SIZE = 60_000_000
COPIES = 10


def paragraphs(text: str) -> list[str]:
    """The documents that `document_separator: blank_line` means, found in the plainest way: the whole text at once."""
    parts = re.split(r"\r?\n[ \t\r\n]*\n", "\n\n" + text)
    parts[-1] = parts[-1].removesuffix("\n").removesuffix("\r")
    return [part for part in parts if part and not part.isspace()]


def python_documentation(folder: Path) -> Path:
    """60 MB of English that is wherever Python is: its documentation over and over, every paragraph numbered."""
    path = folder / f"python-{sys.version_info.major}.{sys.version_info.minor}-docs.txt"
    if not path.exists():
        texts = [text for batch in PythonDocs("blank_line").documents() for text in batch.texts]
        _number(texts, path, SIZE)
    return path


def many_times(text: Path, path: Path) -> None:
    """COPIES times `text` as `path`, the paragraphs numbered so that no two are the same."""
    whole = text.read_text("utf-8")
    _number(paragraphs(whole), path, COPIES * text.stat().st_size)


def _number(texts: list[str], path: Path, size: int) -> None:
    written, copy = 0, 0
    staging = path.with_suffix(".tmp")
    with staging.open("wb") as file:
        while written < size:
            for start in range(0, len(texts), 10_000):
                part = enumerate(texts[start : start + 10_000], start)
                written += file.write("".join(f"{copy}.{index} {text}\n\n" for index, text in part).encode())
                if written >= size:
                    break
            copy += 1
    staging.replace(path)


def tokenizer_for(text: Path, folder: Path) -> Path:
    """A tokenizer trained on `text` by this project; the one in `folder` if the text is still the same."""
    source = FileSource([text], Reading(separator="blank_line"), folder)
    made = folder / f"tokenizer-{source.name}"
    fingerprint = {"documents": source.fingerprint(), "vocab_size": VOCAB_SIZE}
    if tokenizer.trained_with(made) != fingerprint:
        print(f"training a tokenizer of {VOCAB_SIZE:,} ids on {text} (not timed)", flush=True)
        tokenizer.save(tokenizer.train(source, VOCAB_SIZE, text.stat().st_size, print), made, fingerprint)
    return made


def read_once(path: Path) -> None:
    """Bring a file's pages into memory, so that no way has to wait for the disk."""
    with path.open("rb") as file, ByteProgress(f"reading {path.name}", path.stat().st_size) as progress:
        while file.read(1 << 24):
            progress.at(file.tell())
