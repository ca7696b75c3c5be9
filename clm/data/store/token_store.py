"""Token ids on disk, read through memory maps. A start reads almost nothing, whatever the size.

A store is a folder:
    store.json     the fingerprint of all that shaped it, dtype, vocabulary, how long documents are, and each part's
                   counts and hashes
    counts.bin     int64: how often each id occurs, end-of-text included
    part-00000/    (and more for texts of many files)
        tokens.bin     every document's ids, each followed by one end-of-text id; uint16 up to 65,536 ids, else uint32
        lengths.bin    uint32: ids of each document, its end-of-text included
        counts.bin     int64: as above, of this part
The parts, one after another, are one long row of ids, numbered in 64 bits. What a start reads, store.json and the first
counts.bin, grows with neither tokens nor documents, but for a row of store.json for each part.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from clm.data.sources.documents import Notes, Source
from clm.data.store.builder import build, is_built, part_folder
from clm.data.store.writer import Totals, hash_text
from clm.errors import UserError
from clm.files import read_json
from clm.progress import Say
from clm.rollback import Rollback

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedTokenizerBase

STORE_VERSION = 5


class TokenStore:
    """A finished store. Opening it reads no tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = read_json(folder / "store.json")
        self.fingerprint: dict = about["fingerprint"]
        self.end_of_text: int = about["end_of_text"]
        self.vocab_size: int = about["vocab_size"]
        self.parts: list[dict] = about["parts"]
        self.totals = Totals(*(sum(part[field.name] for part in self.parts) for field in fields(Totals)))
        self.encoder: str = ", ".join(sorted({part["encoder"] for part in self.parts}))
        self._dtype = np.dtype(about["dtype"])
        self._starts = np.cumsum([0] + [part["tokens"] for part in self.parts], dtype=np.int64)
        self._mapped: dict[int, np.ndarray] = {}
        self.documents_by_length: list[list[int]] = about["documents_by_length"]

    @property
    def tokens(self) -> int:
        """Ids in the store, an end-of-text for every document included."""
        return self.totals.tokens

    @property
    def notes(self) -> Notes:
        """What there was to say about the text when it was read."""
        notes = Notes()
        for part in self.parts:
            notes.update(Notes(part.get("notes")))
        return notes

    def _map(self, name: str, dtype: type | np.dtype, number: int) -> np.ndarray:
        path = part_folder(self.folder, number) / name
        return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)

    def _ids(self, number: int) -> np.ndarray:
        if number not in self._mapped:
            self._mapped[number] = self._map("tokens.bin", self._dtype, number)
        return self._mapped[number]

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each document ends, (documents,) int64, its end-of-text included."""
        lengths = [self._map("lengths.bin", np.uint32, number) for number in range(len(self.parts))]
        return np.cumsum(np.concatenate(lengths), dtype=np.int64)

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each id occurs, (vocab_size,) int64."""
        return np.fromfile(self.folder / "counts.bin", np.int64)

    def span(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to before `stop`; a view where they lie in one part."""
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        pieces = []
        while start < stop:
            part, first = self._ids(number), int(self._starts[number])
            pieces.append(part[start - first : stop - first])
            start += len(pieces[-1])
            number += 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.empty(0, self._dtype)])

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The `length` ids from each of `starts`, (len(starts), length), copied out in one step for each part."""
        numbers = np.searchsorted(self._starts, starts, side="right") - 1
        within = starts + length <= self._starts[numbers + 1]
        out = np.empty((len(starts), length), self._dtype)
        for number in np.unique(numbers[within]):
            rows = within & (numbers == number)
            windows = np.lib.stride_tricks.sliding_window_view(self._ids(number), length)
            out[rows] = windows[starts[rows] - self._starts[number]]
        for row in np.flatnonzero(~within):
            out[row] = self.span(int(starts[row]), int(starts[row]) + length)
        return out


def open_or_build(
    folder: Path,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: dict,
    verify: bool = False,
    say: Say = print,
    rollback: Rollback | None = None,
) -> TokenStore:
    """The store at `folder` if its fingerprint is this one, else a new one in its place.

    Runs that start together build it once. `rollback` covers a new store.

    Raises:
        UserError: the source's own errors; with `verify`, a store that isn't what the text gives.
        MachineError: the disk is full.
    """
    if not is_built(folder, fingerprint):
        build(folder, source, tokenizer, fingerprint, rollback or Rollback(), say)
        return TokenStore(folder)
    store = TokenStore(folder)
    if verify:
        _verify(store, source)
    return store


def _verify(store: TokenStore, source: Source) -> None:
    """Read text and tokens again and compare them with the hashes taken when the store was built."""
    for number, (part, text) in enumerate(zip(store.parts, source.parts(), strict=True)):
        path = part_folder(store.folder, number) / "tokens.bin"
        with path.open("rb") as file:
            if hashlib.file_digest(file, xxhash.xxh3_128).hexdigest() != part["tokens_xxh3_128"]:
                raise UserError(f"{path}: not as it was written; delete {store.folder} to build it again")
        if hash_text(text) != part["text_xxh3_128"]:
            raise UserError(
                f"{store.folder}: the text of {text.origin} has changed, though its size and date haven't; delete "
                "the folder to build it again"
            )
