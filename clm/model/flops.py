"""How much arithmetic training is, and how much of it a device can do."""

import math
import time

import torch

# Dense bf16 matmuls with fp32 accumulation, FLOP/s, from NVIDIA's data sheets; the first name that fits counts.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}

# Share of the peak that training reaches. A CPU's is of the matmul rate measured on the spot, and was itself measured
# (docs/training-speed.md: 59 to 63 % in bf16); a GPU's is assumed, as nothing was measured on one.
UTILISATION = {"cpu": 0.6, "gpu": 0.4}


def flops_per_token(parameters: int, n_layer: int, n_embd: int, block_size: int) -> float:
    """Forward and backward FLOPs of one token: 6 N, plus causal attention's 6 n_layer n_embd block_size.

    N counts every parameter that takes part in a matmul, the tied head included and the position table not
    (PaLM, Chowdhery et al. 2022, appendix B, there 12 L E T without the causal half; recomputation isn't counted).
    """
    return 6 * parameters + 6 * n_layer * n_embd * block_size


def peak_flops(device: str, name: str, bf16: bool) -> float | None:
    """FLOP/s that a device can do: known for common GPUs in bf16, measured now for a CPU, else None."""
    if device == "cpu":
        return measured_matmul_rate(device, torch.bfloat16 if bf16 else torch.float32)
    known = (peak for part, peak in PEAKS.items() if part.lower() in name.lower())
    return next(known, None) if bf16 else None


def measured_matmul_rate(device: str, dtype: torch.dtype, size: int = 1024, seconds: float = 0.5) -> float:
    """FLOP/s of a square matmul on this device, the best of the repetitions that fit into `seconds`."""
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        product = left @ right
        if device != "cpu":
            product[0, 0].item()  # until it is there
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
