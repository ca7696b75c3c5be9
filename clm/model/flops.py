"""How much arithmetic training is, and how much of it a device can do, by its maker's word."""

import re

# Dense matmuls in bf16 (fp16 for Turing and Volta) with fp32 accumulation, TFLOP/s. From NVIDIA's data sheets of each
# card, where half of what is given "with sparsity" counts; for B300, B200 and the GB cards from those of HGX and NVL72,
# divided by their GPUs. GeForce cards: the appendices of NVIDIA's papers "Ampere GA102", "Ada" and "RTX Blackwell GPU
# Architecture" (FP32 accumulate). A10G: Amazon's page of G5 instances. H20, sold in China only: as widely reported. The
# first name whose words the card's name all has counts.
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
    "RTX 4080 SUPER": 104,
    "RTX 4080": 97,
    "RTX 3090 Ti": 80,
    "RTX 3090": 71,
    "V100 PCIE": 112,
    "V100": 125,
    "T4": 65,
}
# A slice of a card (MIG, or a virtual one as in "A40-48Q"), and the weaker one that shares another's name (laptops, the
# "4090 D"): what they do has to be measured.
_NOT_THE_WHOLE_CARD = re.compile(r"\b(MIG|GRID|LAPTOP|MAX|MOBILE|D|\d+[ABCQ])\b")

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
    if _NOT_THE_WHOLE_CARD.search(name.upper()):
        return None
    words = set(re.split("[ -]", name.upper()))
    return next((peak * 1e12 for part, peak in PEAKS.items() if set(part.upper().split()) <= words), None)
