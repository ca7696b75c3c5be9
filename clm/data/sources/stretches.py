"""Documents in stretches of lines, or of characters where there are no lines, for a split that documents don't give."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from clm.data.sources.packed import Batch

WHITE_SPACE_NEAR = 100  # characters
_WHITE_SPACE = re.compile(r"\s")


def cut_stretches(
    batches: Iterable[Batch], length: int, within_lines: bool = False
) -> Iterator[tuple[str, bool, bool]]:
    """Documents in stretches of whole lines: (text, whether its stretch ends, whether its document ends).

    A stretch ends at the first line end where it has `length` characters and any text, or with its document.
    `within_lines`, for texts without lines: before the next white space, or between two characters where none is near.
    """
    size, blank = 0, True
    for batch in batches:
        texts = batch.texts
        for number, text in enumerate(texts, 1):
            whole = number < len(texts) or not batch.continues
            start = 0
            while start < len(text):
                wanted = max(start, start + length - size - 1)
                end = _end_within(text, wanted + 1) if within_lines else text.find("\n", wanted) + 1 or len(text)
                piece = text[start:end]
                size, blank = size + len(piece), blank and piece.isspace()
                document_ends = whole and end == len(text)
                at_end = within_lines or piece.endswith("\n")
                stretch_ends = document_ends or (size >= length and not blank and at_end)
                yield piece, stretch_ends, document_ends
                if stretch_ends:
                    size, blank = 0, True
                start = end


def _end_within(text: str, at: int) -> int:
    """Where a stretch may end at `at` or after it: never before a mark, which belongs to the letter before."""
    near = _WHITE_SPACE.search(text, at, at + WHITE_SPACE_NEAR)
    if near is not None:
        return near.start()
    while at < len(text) and unicodedata.category(text[at]).startswith("M"):
        at += 1
    return min(at, len(text))
