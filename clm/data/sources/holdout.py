"""The validation split: some documents of a source, chosen by a seeded hash of their content.

So the choice depends neither on the order of the documents nor on how they are read, and equal documents fall
on the same side.
"""

from collections.abc import Iterable, Iterator
from itertools import compress

import numpy as np
import xxhash

from clm.data.sources.documents import Notes, NoText, Source
from clm.data.sources.packed import CHUNK_BYTES, Batch, assemble, pack
from clm.data.sources.stretches import cut_stretches
from clm.data.sources.survey import Survey, surveyed
from clm.errors import UserError

_LONG = f"{CHUNK_BYTES >> 21} MiB"  # longer documents come in pieces


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
            self._survey = surveyed(self.base, self.percentage, self.seed)
        if self._survey.fingerprint != self.base.fingerprint():
            raise UserError(f"{self.base.origin}: changed while it was read; run again when it no longer does")
        return self._survey


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
