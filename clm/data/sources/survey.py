"""Which documents of a source are for validation, found by reading all of it once or twice.

One pass keeps 8 bytes a document. Where there are too few documents, it is repeated over stretches of lines, and where
those are too few or too unequal, over stretches that may end inside a line.
"""

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import xxhash

from clm.data.sources.documents import Source
from clm.data.sources.packed import Batch
from clm.data.sources.stretches import cut_stretches
from clm.errors import UserError

MARKERS = ("<|endoftext|>", "<|end_of_text|>", "</s>")  # what others put between documents
SHORTEST_WITHIN_LINES = 20  # characters of a stretch that may end inside a line
STRETCHES = 10  # in a validation text that isn't of whole documents, about
MOST_BY_LINES = 2  # times the share that was asked for: whole lines that make more are too long


class Survey(NamedTuple):
    """What the survey found: which unit, in order, is validation text, and what a unit is."""

    sides: np.ndarray  # bool, one a unit
    stretch: int  # characters of a stretch at least; 0: units are documents
    within_lines: bool  # a stretch may end inside a line
    fingerprint: dict  # of the source as it was


def surveyed(base: Source, percentage: float, seed: int) -> Survey:
    """The survey of a source, of which `percentage` is for validation.

    Raises UserError where it has too few different texts to set some apart.
    """
    fingerprint = base.fingerprint()
    hashes, size = _hash_documents(base.documents(), seed)
    if len(hashes) * percentage >= 100:
        sides = _smallest(hashes, round(len(hashes) * percentage / 100))
        if sides is not None:
            return Survey(sides, 0, False, fingerprint)
    length = max(1, int(size * percentage / 100 / STRETCHES))
    of_lines, share = _by_stretches(base, length, False, percentage, seed)
    if of_lines is not None and (share <= MOST_BY_LINES * percentage / 100 or length < SHORTEST_WITHIN_LINES):
        return Survey(of_lines, length, False, fingerprint)
    _refuse_markers(base)
    within = _by_stretches(base, length, True, percentage, seed)[0] if length >= SHORTEST_WITHIN_LINES else None
    if within is not None:
        return Survey(within, length, True, fingerprint)
    if of_lines is not None:
        return Survey(of_lines, length, False, fingerprint)
    raise UserError(
        f"{base.origin}: too few different documents or lines ({size:,} characters) to set some apart for validation; "
        "give validation_file, or more text"
    )


def _by_stretches(
    base: Source, length: int, within_lines: bool, percentage: float, seed: int
) -> tuple[np.ndarray | None, float]:
    """Which stretches are for validation, and the share of the text that they hold; None where that is none or all."""
    hashes, sizes = _hash_stretches(cut_stretches(base.documents(), length, within_lines), seed)
    sides = _smallest(hashes, max(1, round(len(hashes) * percentage / 100)))
    counted = np.frombuffer(sizes, np.uint64)
    return sides, 0.0 if sides is None else float(counted[sides].sum() / counted.sum())


def _refuse_markers(base: Source) -> None:
    """UserError where a text that seems to have no documents spells out what stands between documents elsewhere."""
    for marker in MARKERS:
        if count := sum(batch.data.count(marker.encode()) for batch in base.documents()):
            raise UserError(
                f"{base.origin}: has too few documents and lines to set some apart for validation, and holds {marker} "
                f"{count:,} times: if that stands between documents, set document_separator to {marker}; else give "
                "validation_file"
            )


def _hash_documents(batches: Iterable[Batch], seed: int) -> tuple[array, int]:
    """Hashes of all documents, and the characters that they hold."""
    hashes = array("Q")
    size = 0
    open_hash = None  # of a document that goes on over batches
    digest = xxhash.xxh3_64_intdigest
    for batch in batches:
        documents = batch.documents
        size += len(batch.data.decode(errors="ignore"))
        if open_hash is not None:
            open_hash.update(documents[0])
            if batch.continues and len(documents) == 1:
                continue
            hashes.append(open_hash.intdigest())
            documents, open_hash = documents[1:], None
        if batch.continues:
            open_hash = xxhash.xxh3_64(documents[-1], seed)
            documents = documents[:-1]
        hashes.extend([digest(document, seed) for document in documents])
    return hashes, size


def _smallest(hashes: array, count: int) -> np.ndarray | None:
    """Marks the `count` smallest hashes, or with equal ones about so many; None if that is none or all."""
    values = np.frombuffer(hashes, np.uint64)
    last = np.partition(values, count - 1)[count - 1]
    choices = [sides for sides in (values <= last, values < last) if sides.any() and not sides.all()]
    return min(choices, key=lambda sides: abs(int(sides.sum()) - count), default=None)


def _hash_stretches(stretches: Iterable[tuple[str, bool, bool]], seed: int) -> tuple[array, array]:
    """Hashes of all stretches, and their characters; one of white space, which ends a document, has the hash before."""
    hashes, sizes, size = array("Q"), array("Q"), 0
    state, blank = xxhash.xxh3_64(seed=seed), True
    for text, stretch_ends, _ in stretches:
        state.update(text.encode())
        blank, size = blank and text.isspace(), size + len(text)
        if stretch_ends:
            hashes.append(hashes[-1] if blank else state.intdigest())
            sizes.append(size)
            state, blank, size = xxhash.xxh3_64(seed=seed), True, 0
    return hashes, sizes
