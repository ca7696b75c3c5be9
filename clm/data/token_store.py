"""Documents to token ids on disk: written once, whole or not at all, and read through a memory map.

A store is a folder:
    tokens.bin     every document's ids, each followed by one end-of-text id; uint16 up to 65,536 ids, else uint32
    documents.bin  int64: where each document ends in tokens.bin, its end-of-text included
    counts.bin     int64: how often each id occurs, end-of-text included
    store.json     the counts of tokens, documents, words and bytes, the fingerprint of all that shaped them, and
                   hashes of the text and of tokens.bin
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash
from transformers import PreTrainedTokenizerBase

from clm.data.documents import Source
from clm.data.store_writer import Totals, hash_text, write_store
from clm.errors import MachineError, UserError
from clm.files import Made

STORE_VERSION = 2


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
        self.text_hash: str = about["text_xxh3_128"]
        self.tokens_hash: str = about["tokens_xxh3_128"]
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
                _verify(store, source)
            return store
        staging = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
        try:
            write_store(staging, source, tokenizer, fingerprint, say)
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


def _verify(store: TokenStore, source: Source) -> None:
    """Read text and tokens again and compare them with the hashes taken when the store was built."""
    with (store.folder / "tokens.bin").open("rb") as file:
        tokens_hash = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    if tokens_hash != store.tokens_hash:
        raise UserError(
            f"{store.folder / 'tokens.bin'}: not as it was written; delete {store.folder} to build it again"
        )
    if hash_text(source) != store.text_hash:
        raise UserError(
            f"{store.folder}: the text of {source.origin} has changed, though its size and date haven't; delete the "
            "folder to build it again"
        )
