"""The validation split: some documents of a source, chosen by a seeded hash of their content.

So the choice depends neither on the order of the documents nor on how they are read, and equal documents fall
on the same side. One survey pass keeps 8 bytes a document; where there are too few documents, it is repeated
over stretches of lines.
"""

from array import array
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

import numpy as np
import xxhash

from clm.data.sources.documents import Notes, NoText, Source
from clm.data.sources.packed import CHUNK_BYTES, Batch, assemble, pack
from clm.data.sources.stretches import cut_stretches
from clm.errors import UserError

_LONG = f"{CHUNK_BYTES >> 21} MiB"  # longer documents come in pieces
MARKERS = ("<|endoftext|>", "<|end_of_text|>", "</s>")  # what others put between documents
SHORTEST_WITHIN_LINES = 20  # characters of a stretch that may end inside a line
STRETCHES = 10  # in a validation text that isn't of whole documents, about


class Survey(NamedTuple):
    """What the survey found: which unit, in order, is validation text, and what a unit is."""

    sides: np.ndarray  # bool, one a unit
    stretch: int  # characters of a stretch at least; 0: units are documents
    within_lines: bool  # a stretch may end inside a line
    fingerprint: dict  # of the source as it was


class HoldOut:
    """Divides a source's documents into two sources. The survey is made when the first of them is read."""

    def __init__(self, base: Source, percentage: float, seed: int, survey: bool) -> None:
        """Take `percentage`, above 0 and below 100. Without survey it is a part of the range of hashes."""
        self.base = base
        self.percentage = percentage
        self.seed = seed
        self.with_survey = survey
        self._survey: Survey | None = None

    @property
    def note(self) -> str:
        """One line on how the validation text is chosen; exact once the survey has been made."""
        percentage, seed, origin = f"{self.percentage:g} %", self.seed, self.base.origin
        if not self.with_survey:
            return (
                f"validation text: about {percentage} of the documents of {origin}, chosen by a hash with seed {seed}, "
                f"of less than {_LONG} each"
            )
        if self._survey is None:
            return f"validation text: {percentage} of the documents of {origin}, chosen by a hash with seed {seed}"
        chosen, units = int(self._survey.sides.sum()), len(self._survey.sides)
        if not self._survey.stretch:
            return f"validation text: {chosen:,} of {units:,} documents of {origin}, chosen by a hash with seed {seed}"
        unit = "text" if self._survey.within_lines else "lines"
        return (
            f"validation text: {chosen:,} of {units:,} stretches of {unit} of {origin}, chosen by a hash with seed "
            f"{seed}, as too few documents make {percentage}"
        )

    def survey(self) -> Survey:
        """The survey, made at the first call and checked against a source that changed since."""
        if self._survey is None:
            self._survey = self._make_survey()
        if self._survey.fingerprint != self.base.fingerprint():
            raise UserError(f"{self.base.origin}: changed while it was read; run again when it no longer does")
        return self._survey

    def _make_survey(self) -> Survey:
        fingerprint = self.base.fingerprint()
        hashes, size = _hash_documents(self.base.documents(), self.seed)
        if len(hashes) * self.percentage >= 100:
            sides = _smallest(hashes, round(len(hashes) * self.percentage / 100))
            if sides is not None:
                return Survey(sides, 0, False, fingerprint)
        stretch = max(1, int(size * self.percentage / 100 / STRETCHES))
        sides = self._stretches(stretch, within_lines=False)
        if sides is not None:
            return Survey(sides, stretch, False, fingerprint)
        self._refuse_markers()
        sides = self._stretches(stretch, within_lines=True) if stretch >= SHORTEST_WITHIN_LINES else None
        if sides is None:
            raise UserError(
                f"{self.base.origin}: too few different documents or lines ({size:,} characters) to set some apart for "
                "validation; give validation_file, or more text"
            )
        return Survey(sides, stretch, True, fingerprint)

    def _stretches(self, length: int, within_lines: bool) -> np.ndarray | None:
        hashes = _hash_stretches(cut_stretches(self.base.documents(), length, within_lines), self.seed)
        return _smallest(hashes, max(1, round(len(hashes) * self.percentage / 100)))

    def _refuse_markers(self) -> None:
        """UserError where a text that seems to be one document spells out what stands between documents elsewhere."""
        for marker in MARKERS:
            if count := sum(batch.data.count(marker.encode()) for batch in self.base.documents()):
                raise UserError(
                    f"{self.base.origin}: is one document of one line, and holds {marker} {count:,} times: if that "
                    f"stands between documents, set document_separator to {marker}; else give validation_file"
                )


class Side:
    """One side of a HoldOut: a Source."""

    def __init__(self, holdout: HoldOut, validation: bool) -> None:
        """Take the side: validation or training."""
        self.holdout = holdout
        self.validation = validation
        self.name = holdout.base.name
        self.size_bytes = holdout.base.size_bytes
        held_out = f"{holdout.percentage:g} % for validation"
        self.origin = f"{holdout.base.origin} ({held_out if validation else f'without {held_out}'})"

    @property
    def bytes_read(self) -> int:
        """Bytes read of the whole source."""
        return self.holdout.base.bytes_read

    @property
    def notes(self) -> Notes:
        """The whole source's."""
        return self.holdout.base.notes

    def fingerprint(self) -> dict:
        """The whole source's, and how it is divided."""
        holdout = self.holdout
        rule = {"percentage": holdout.percentage, "seed": holdout.seed, "survey": holdout.with_survey}
        return {
            **holdout.base.fingerprint(),
            "holdout": rule,
            "side": "validation" if self.validation else "train",
        }

    def documents(self) -> Iterator[Batch]:
        """The documents of this side, in the source's order."""
        base = self.holdout.base
        survey = self.holdout.survey() if self.holdout.with_survey else None
        if survey is None:
            batches = _by_hash(base.documents(), self.holdout.percentage, self.holdout.seed, self.validation)
        elif survey.stretch:
            stretches = cut_stretches(base.documents(), survey.stretch, survey.within_lines)
            batches = assemble(map(pack, _chosen_stretches(stretches, survey.sides, self.validation)))
        else:
            batches = _by_number(base.documents(), survey.sides == self.validation)
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise NoText(f"{self.origin}: no document falls on this side; give validation_file")
        if survey is not None:
            self.holdout.survey()

    def parts(self) -> list["Side"]:
        """The whole source's parts, where a document's side depends on nothing but itself."""
        holdout = self.holdout
        if holdout.with_survey:
            return [self]
        parts = (HoldOut(part, holdout.percentage, holdout.seed, survey=False) for part in holdout.base.parts())
        return [Side(part, self.validation) for part in parts]


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


def _by_number(batches: Iterable[Batch], wanted: np.ndarray) -> Iterator[Batch]:
    number = 0
    for batch in batches:
        documents = batch.documents
        here = wanted[number : number + len(documents)]
        number += len(documents) - batch.continues
        if here.any():
            chosen = batch.separator.join(compress(documents, here))
            yield Batch(chosen, batch.separator, batch.continues and bool(here[-1]))


def _by_hash(batches: Iterable[Batch], percentage: float, seed: int, validation: bool) -> Iterator[Batch]:
    """Without a survey. A document longer than a batch is for training: its hash is known too late."""
    limit = int(percentage / 100 * 2**64)
    digest = xxhash.xxh3_64_intdigest
    inside = False
    for batch in batches:
        documents = batch.documents
        here = [(digest(document, seed) < limit) == validation for document in documents]
        if inside:
            here[0] = not validation
        if batch.continues:
            here[-1] = not validation
        inside = batch.continues
        if any(here):
            chosen = batch.separator.join(compress(documents, here))
            yield Batch(chosen, batch.separator, batch.continues and not validation)


def _hash_stretches(stretches: Iterable[tuple[str, bool, bool]], seed: int) -> array:
    """Hashes of all stretches; one of white space, which ends a document, has that of the one before."""
    hashes = array("Q")
    state, blank = xxhash.xxh3_64(seed=seed), True
    for text, stretch_ends, _ in stretches:
        state.update(text.encode())
        blank = blank and text.isspace()
        if stretch_ends:
            hashes.append(hashes[-1] if blank else state.intdigest())
            state, blank = xxhash.xxh3_64(seed=seed), True
    return hashes


def _chosen_stretches(
    stretches: Iterable[tuple[str, bool, bool]], sides: np.ndarray, validation: bool
) -> Iterator[list[str]]:
    """Parts (packed.pack) of one side: its neighbouring stretches of a document are one document."""
    number = 0
    border = ["", ""]
    for text, stretch_ends, document_ends in stretches:
        if sides[number] == validation:
            yield [text]
        if document_ends or (stretch_ends and sides[number] != sides[number + 1]):
            yield border
        number += stretch_ends
