"""How many FLOP/s this machine's device reaches in matmuls, measured."""

import functools
import math
import time
from collections.abc import Callable

import torch

from clm.model.flops import known_peak


@functools.cache
def peak_flops(device: str, name: str, half: bool) -> float | None:
    """FLOP/s that a device can do in half precision or fp32; None where nothing tells.

    Of a listed GPU in half precision it is the maker's figure, else the rate of matmuls, measured once.
    """
    known = known_peak(name) if device == "cuda" and half else None
    if known or device not in ("cpu", "cuda"):
        return known
    return measured_matmul_rate(device, half_dtype(device) if half else torch.float32)


def half_dtype(device: str) -> torch.dtype:
    """What half precision is on this device: bf16, but fp16 on GPUs that have no bf16 arithmetic."""
    no_bf16 = device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.float16 if no_bf16 else torch.bfloat16


def measured_matmul_rate(device: str, dtype: torch.dtype, size: int = 0, seconds: float = 0.5) -> float:
    """FLOP/s of a square matmul on this device, within about so many seconds.

    On a CPU the best of the repetitions. On a GPU a queue of them with one wait at its end: a wait for each would time
    the way there and back, ten times the work itself.

    Args:
        size: rows and columns; by default 1,024 on a CPU, on a GPU 8,192 (4,096 in fp32), which fills any.
    """
    if device == "cpu":
        size = size or 1024
        return _best_rate(*(torch.ones(size, size, dtype=dtype) for _ in range(2)), seconds)
    size = size or (4096 if dtype == torch.float32 else 8192)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))  # ones would cost less power
    return _queued_rate(left, right, torch.accelerator.synchronize, seconds)


def _best_rate(left: torch.Tensor, right: torch.Tensor, seconds: float) -> float:
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * len(left) ** 3 / best


def _queued_rate(left: torch.Tensor, right: torch.Tensor, synchronize: Callable[[], None], seconds: float) -> float:
    product = torch.empty_like(left)

    def duration(count: int) -> float:
        synchronize()
        started = time.perf_counter()
        for _ in range(count):
            torch.mm(left, right, out=product)
        synchronize()
        return time.perf_counter() - started

    duration(2)  # loads the kernel
    count = max(4, int(seconds / (duration(2) / 2)))
    return count * 2 * len(left) ** 3 / duration(count)
