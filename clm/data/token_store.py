"""Documents to token ids on disk: written once, whole or not at all, and read through a memory map.

A store is a folder:
    tokens.bin     every document's ids, each followed by one end-of-text id; uint16 up to 65,536 ids, else uint32
    documents.bin  int64: where each document ends in tokens.bin, its end-of-text included
    counts.bin     int64: how often each id occurs, end-of-text included
    store.json     the counts of tokens, documents, words and bytes, and the fingerprint of all that shaped them
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from clm.data import encoder as encoders
from clm.data.documents import Batch, Source
from clm.errors import MachineError, UserError
from clm.files import Made
from clm.progress import ByteProgress

STORE_VERSION = 1


@dataclass
class Totals:
    """What was counted while the text went by. `words` are whitespace words plus one for every line end."""

    tokens: int = 0
    documents: int = 0
    words: int = 0
    bytes: int = 0


class TokenStore:
    """A finished store, opened without reading it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "store.json").read_text("utf-8"))
        self.fingerprint: dict = about["fingerprint"]
        self.end_of_text: int = about["end_of_text"]
        self.vocab_size: int = about["vocab_size"]
        self.totals = Totals(**about["totals"])
        self.encoder: str = about["encoder"]
        self._dtype = np.dtype(about["dtype"])

    @property
    def tokens(self) -> int:
        """Ids in the store, an end-of-text for every document included."""
        return self.totals.tokens

    @cached_property
    def ids(self) -> np.ndarray:
        """All ids, (tokens,), memory-mapped."""
        return np.memmap(self.folder / "tokens.bin", self._dtype, mode="r", shape=(self.tokens,))

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each document ends, (documents,) int64, its end-of-text included."""
        return np.memmap(self.folder / "documents.bin", np.int64, mode="r", shape=(self.totals.documents,))

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each id occurs, (vocab_size,) int64."""
        return np.fromfile(self.folder / "counts.bin", np.int64)

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The `length` ids from each of `starts`, (len(starts), length), copied out in one step."""
        return np.lib.stride_tricks.sliding_window_view(self.ids, length)[starts]


def open_or_build(
    folder: Path,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: dict,
    verify: bool = False,
    say: Callable[[str], None] = print,
    made: Made | None = None,
) -> TokenStore:
    """The store at `folder` if its fingerprint is this one, else a new one in its place.

    Two runs that start together build it once: the second waits for the first. With `verify` the text is read and
    encoded again, and a store that differs from it is refused. `made` is told of a new store.

    Raises:
        UserError: the source's own errors; with `verify`, a store that isn't what the text gives.
        MachineError: the disk is full.
    """
    made = made or Made()
    with made.locked(folder):
        for left_behind in folder.parent.glob(f"{folder.name}.tmp-*"):
            shutil.rmtree(left_behind)
        if matches(folder, fingerprint):
            store = TokenStore(folder)
            if verify:
                _verify(store, source, tokenizer, say)
            return store
        staging = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
        try:
            _build(staging, source, tokenizer, fingerprint, say)
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
            made.built(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise MachineError(
                    f"{folder.parent}: the disk is full; free some space or set another cache_dir"
                ) from None
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return TokenStore(folder)


def matches(folder: Path, fingerprint: dict) -> bool:
    """Whether there is a whole store at `folder` with this fingerprint."""
    try:
        return json.loads((folder / "store.json").read_text("utf-8"))["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _build(
    staging: Path, source: Source, tokenizer: PreTrainedTokenizerBase, fingerprint: dict, say: Callable[[str], None]
) -> None:
    encoder, why_slow = encoders.fastest(tokenizer)
    if why_slow:
        say(f"encoding with tokenizers, the slow way: {why_slow}")
    try:
        _encode_into(staging, source, tokenizer, encoder, fingerprint)
    except encoders.Mismatch:
        say(f"{encoder.name} gave other ids than tokenizers on this text: encoding it again with tokenizers")
        _encode_into(staging, source, tokenizer, encoders.ReferenceEncoder(tokenizer), fingerprint)


def _encode_into(
    staging: Path,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    encoder: encoders.FastEncoder | encoders.ReferenceEncoder,
    fingerprint: dict,
) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    vocab_size, end_of_text = len(tokenizer), tokenizer.eos_token_id
    dtype = np.dtype(np.uint16 if vocab_size <= 65_536 else np.uint32)
    totals, counts = Totals(), np.zeros(vocab_size, np.int64)
    with (
        (staging / "tokens.bin").open("wb") as tokens_file,
        (staging / "documents.bin").open("wb") as documents_file,
        ByteProgress(f"encoding {source.name}", source.size_bytes) as progress,
    ):
        for batch in source.documents():
            ids, ends = _with_end_of_text(*encoder.encode(batch.texts), batch.continues, end_of_text)
            (ends + totals.tokens).tofile(documents_file)
            ids.astype(dtype).tofile(tokens_file)
            counts += np.bincount(ids, minlength=vocab_size)
            _count(batch, totals)
            totals.tokens += len(ids)
            totals.documents += len(ends)
            progress.at(source.bytes_read)
        for file in (tokens_file, documents_file):
            file.flush()
            os.fsync(file.fileno())
    if totals.documents == 0:
        raise UserError(f"{source.origin}: holds no text")
    counts.tofile(staging / "counts.bin")
    about = {
        "fingerprint": fingerprint,
        "totals": asdict(totals),
        "dtype": dtype.name,
        "vocab_size": vocab_size,
        "end_of_text": end_of_text,
        "encoder": encoder.name,
    }
    with (staging / "store.json").open("w", encoding="utf-8") as file:
        json.dump(about, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _with_end_of_text(
    ids: np.ndarray, ends: np.ndarray, continues: bool, end_of_text: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put an end-of-text after each document's ids; (all ids, where each finished document now ends).

    A document that goes on in the next batch gets its end-of-text there.
    """
    finished = ends[:-1] if continues else ends
    out = np.full(len(ids) + len(finished), end_of_text, dtype=ids.dtype)
    moved = finished + np.arange(1, len(finished) + 1)
    keep = np.ones(len(out), dtype=bool)
    keep[moved - 1] = False
    out[keep] = ids
    return out, moved


def _count(batch: Batch, totals: Totals) -> None:
    text = "\n".join(batch.texts)
    joints = len(batch.texts) - 1
    totals.bytes += len(text.encode()) - joints
    totals.words += len(text.split()) + text.count("\n") - joints


def _verify(store: TokenStore, source: Source, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]) -> None:
    again = store.folder.with_name(f"{store.folder.name}.tmp-{os.getpid()}")
    try:
        _build(again, source, tokenizer, store.fingerprint, say)
        for name in ("tokens.bin", "documents.bin", "counts.bin"):
            if _digest(again / name) != _digest(store.folder / name):
                raise UserError(f"{store.folder / name}: isn't what {source.origin} gives; delete {store.folder}")
    finally:
        shutil.rmtree(again, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
