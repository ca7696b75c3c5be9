"""How much arithmetic training is, and how much of it a device can do."""

import functools
import math
import re
import time
from collections.abc import Callable

import torch

# Dense matmuls in bf16 (fp16 for Turing and Volta) with fp32 accumulation, TFLOP/s, from NVIDIA's data sheets, of the
# GeForce cards from its architecture papers. The first name whose words the card's name all has counts.
PEAKS = {
    "GB300": 2500,
    "B300": 2250,
    "GB200": 2500,
    "B200": 2250,
    "GH200": 989,
    "H200 NVL": 835,
    "H200": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100": 989,
    "H800 PCIe": 756,
    "H800": 989,
    "H20": 148,
    "A100": 312,
    "A800": 312,
    "A40": 150,
    "A30": 165,
    "A10G": 70,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 6000 Ada": 364,
    "RTX A6000": 155,
    "RTX 5090": 210,
    "RTX 5080": 113,
    "RTX 5070 Ti": 88,
    "RTX 5070": 62,
    "RTX 4090": 165,
    "RTX 4080": 97,
    "RTX 3090 Ti": 80,
    "RTX 3090": 71,
    "V100": 125,
    "T4": 65,
}
# A slice of a card, and the weaker one that shares a desktop card's name: what they do has to be measured.
_NOT_THE_WHOLE_CARD = {"MIG", "GRID", "LAPTOP", "MAX", "MOBILE"}

# Share of the peak that training reaches. A CPU's is of the matmul rate measured on the spot, and was itself measured
# (docs/training-speed.md: 59 to 63 % in bf16); a GPU's is assumed, as nothing was measured on one.
UTILISATION = {"cpu": 0.6, "gpu": 0.4}


def flops_per_token(parameters: int, n_layer: int, n_embd: int, block_size: int) -> float:
    """Forward and backward FLOPs of one token: 6 N, plus causal attention's 6 n_layer n_embd block_size.

    N counts every parameter that takes part in a matmul, the tied head included and the position table not
    (PaLM, Chowdhery et al. 2022, appendix B, there 12 L E T without the causal half; recomputation isn't counted).
    """
    return 6 * parameters + 6 * n_layer * n_embd * block_size


def known_peak(name: str) -> float | None:
    """FLOP/s of dense matmuls in bf16 or fp16, as the maker of the card called `name` says; None for one not listed."""
    words = set(re.split("[ -]", name.upper()))
    if words & _NOT_THE_WHOLE_CARD:
        return None
    return next((peak * 1e12 for part, peak in PEAKS.items() if set(part.upper().split()) <= words), None)


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
