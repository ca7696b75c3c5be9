"""Which tokens are context and which are scored, as a pure function of a document's length.

    document of 7 tokens, block_size 4, stride 2; `.` context, `*` scored; each window starts from the token before it
    window 0   * * * *
    window 1       . . * *
    window 2           . . *

Every token is scored in exactly one window. With stride = block_size the windows are disjoint blocks, which is what
training's evaluation uses.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Forward passes, longest first; every field is (windows,) int64.

    document: which document it reads; start: where in it the first target is; length: its targets, and as many inputs;
    context: how many of those targets, the first ones, are not scored here because an earlier window scores them.
    """

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray
    context: np.ndarray


def cut(lengths: np.ndarray, block_size: int, stride: int) -> Windows:
    """The windows that score each token of each document once.

    A window starts every `stride` tokens and reads `block_size` targets, or what is left. What it scores has at least
    block_size - stride tokens of its document before it as input, where the document has them, and the token right
    before it.

    Args:
        lengths: (documents,) tokens of each document, without any that joins documents.
        stride: 1 to block_size.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    counts = np.where(lengths > 0, 1 + np.maximum(0, -(-(lengths - block_size) // stride)), 0)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * stride
    length = np.minimum(lengths[document] - start, block_size)
    context = np.where(number > 0, block_size - stride, 0)
    # Windows of like length share a batch, so that short documents cost no padding.
    order = np.argsort(-length, kind="stable")
    return Windows(document[order], start[order], length[order], context[order])


def batches(windows: Windows, batch_tokens: int) -> list[slice]:
    """Runs of windows that with padding have at most `batch_tokens` inputs, or are one window."""
    slices, at = [], 0
    while at < len(windows.length):
        rows = max(1, batch_tokens // int(windows.length[at]))
        slices.append(slice(at, at + rows))
        at += rows
    return slices
