"""The training loss by Liger Kernel's fused linear cross-entropy, for GPUs (Hsu et al. 2024, arXiv 2410.10989)."""

from importlib import metadata

import torch

from clm.data.blocks import IGNORED
from clm.model.loss import compute_dtype

OLDEST = (0, 8, 5)  # the first that it was tried with; `accum_dtype` is there since 0.6.2


def missing() -> str | None:
    """Why Liger's loss can't be used, as far as its package is concerned."""
    try:
        version = metadata.version("liger-kernel")
    except metadata.PackageNotFoundError:
        return "the package liger-kernel isn't installed (requirements-gpu.txt)"
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    return None if numbers >= OLDEST else f"liger-kernel {version} is older than {'.'.join(map(str, OLDEST))}"


@torch.compiler.disable
def summed_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """As `loss.summed_cross_entropy`.

    Under autocast the head's gradient is rounded to bf16 at the end, as autocast does with those of all other weights;
    sums over tokens are in fp32.
    """
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # takes seconds, and is seldom there

    fused = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED, reduction="sum", accum_dtype=torch.float32)
    dtype = compute_dtype(hidden)  # else autocast would cast the whole weight anew for every chunk
    return fused(weight.to(dtype), hidden.reshape(-1, hidden.shape[-1]).to(dtype), labels.reshape(-1))


def try_out(device: torch.device) -> None:
    """Compute a small loss and its gradients; whatever keeps Triton from compiling is raised."""
    hidden, weight = (torch.ones(rows, 16, device=device, requires_grad=True) for rows in (4, 32))
    summed_cross_entropy(hidden, weight, torch.zeros(4, dtype=torch.int64, device=device)).backward()
