"""How many rows of logits a device computes at a time: a CPU wants them in its cache, a GPU few and large kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # takes seconds to import
    import torch

# On a CPU a matmul of few rows waits for the weights. And all else must stay in a core's L2: 1 MB of probabilities.
CPU_ELEMENTS = 2**24  # of logits: 32 MB in bf16
CPU_PIECE_ELEMENTS = 2**18
CPU_GROUP_ELEMENTS = 2**26  # of their gradient, kept for one matmul into the weight's: 128 MB in bf16
CPU_TILE = 32  # rows that two tiles of AMX hold
CUDA_ELEMENTS = 2**27  # of logits, and of their gradient: 4,096 rows of 32,000 ids
CUDA_MEMORY_SHARE = 1 / 16  # of the GPU's memory that may go into these
CUDA_ROWS = 2**14  # at most; fp16 sums no more (see loss.HIDDEN_SCALE)
TILE = 128  # rows that a GPU's matmul takes at once
ALIGNMENT = 64  # of the vocabulary: tensor cores slow down at 50,257 columns, and nanoGPT pads them to 50,304


@dataclass(frozen=True)
class Chunks:
    """How a batch is cut.

    Attributes:
        rows: whose logits are there at a time.
        piece: rows, of these, whose probabilities are there at a time.
        group: rows, a multiple of these, whose gradient by the logits goes into one matmul.
        width: columns of the buffers: the vocabulary, or a little more.
        in_place: whether the logits become their gradient where they lie.
    """

    rows: int
    piece: int
    group: int
    width: int
    in_place: bool


def chunks(device_type: str, tokens: int, vocab_size: int, memory: int = 0) -> Chunks:
    """How a device cuts a batch.

    On a GPU the memory of the whole card counts, not what is free: a run that goes on must cut as it did before, since
    sums in another order are rounded otherwise.

    Args:
        device_type: "cpu", "cuda" or another of torch's.
        tokens: rows of the batch.
        vocab_size: columns of its logits.
        memory: bytes that the card has; read for "cuda" only.
    """
    if device_type != "cuda":
        rows = max(CPU_TILE, CPU_ELEMENTS // vocab_size // CPU_TILE * CPU_TILE)
        piece = max(1, CPU_PIECE_ELEMENTS // vocab_size) if device_type == "cpu" else rows
        return Chunks(rows, piece, rows * max(1, CPU_GROUP_ELEMENTS // vocab_size // rows), vocab_size, in_place=False)
    width = _round_up(vocab_size, ALIGNMENT)
    elements = min(CUDA_ELEMENTS, int(memory * CUDA_MEMORY_SHARE) // _CUDA_BYTES[True])
    most = min(CUDA_ROWS, max(TILE, elements // width // TILE * TILE))
    parts = max(1, -(-tokens // most))
    rows = _round_up(-(-tokens // parts), TILE)  # all about as large, rather than a small one at the end
    return Chunks(rows, rows, rows, width, in_place=True)


def of_device(device: torch.device, tokens: int, vocab_size: int) -> Chunks:
    """How this device cuts a batch of (tokens, vocab_size) logits."""
    import torch

    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return chunks(device.type, tokens, vocab_size, memory)


# Bytes of an element on a GPU. Half precision: the logits, the same in fp32, their log-softmax; fp32: without the copy.
_CUDA_BYTES = {True: 2 + 4 + 4, False: 4 + 4}


def buffer_bytes(device_type: str, tokens: int, vocab_size: int, half: bool, memory: int = 0) -> int:
    """Bytes that logits and their gradient take while the loss of a micro-batch is computed.

    Args:
        half: whether matmuls are in bf16 or fp16, rather than fp32.
        device_type: this, and all else, as in `chunks`.
    """
    if device_type == "cuda":
        cut = chunks(device_type, tokens, vocab_size, memory)
        return min(tokens, cut.rows) * cut.width * _CUDA_BYTES[half]
    logits = tokens * vocab_size
    return 3 * 4 * min(CPU_PIECE_ELEMENTS, logits) + (2 if half else 4) * min(CPU_GROUP_ELEMENTS, logits)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
