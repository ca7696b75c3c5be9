"""The loss alone: over sizes of its chunks, beside Liger Kernel's, and against the plain formula."""

from collections.abc import Callable, Iterator
from unittest.mock import patch

import torch
from torch.nn import functional as F

from benchmarks.gpu import measure
from benchmarks.gpu.rows import Row, failed, left_out, number
from benchmarks.gpu.setting import Setting
from clm.model import chunks, liger, matmul_rate
from clm.model.loss import summed_cross_entropy

MOST_LAUNCHES = 60  # for 4,096 tokens


def check(setting: Setting) -> Iterator[Row]:
    """Prove that the loss is right on the GPU, starts few kernels, and is fastest by the chunks that it takes itself.

    Forward and backward under autocast. Its matmuls are 6 tokens n_embd vocab_size FLOPs.
    """
    device, (tokens, few) = setting.device, setting.sizes.loss_tokens
    yield from _against_the_formula(setting)
    launches = measure.launches(_work(setting, few, summed_cross_entropy), device)
    yield number(f"launches for {few:,} tokens", launches, at_least=1, at_most=MOST_LAUNCHES)
    own = _timed(setting, tokens, summed_cross_entropy)
    yield own[0]
    fastest = own[1]
    limit = "CUDA_ELEMENTS" if device == "cuda" else "CPU_ELEMENTS"
    for elements in setting.sizes.chunk_elements:
        name = f"{elements:,} logits at a time"
        try:
            with patch.object(chunks, limit, elements), patch.object(chunks, "CUDA_MEMORY_SHARE", 0.5):
                row, milliseconds = _timed(setting, tokens, summed_cross_entropy, name)
        except torch.OutOfMemoryError:
            yield left_out(name, "out of memory")
            continue
        yield row
        fastest = min(fastest, milliseconds)
    yield number("its own chunks, time to that of the fastest", own[1] / fastest, at_most=1.1)
    if device != "cuda" or liger.missing():
        yield left_out("Liger Kernel's", liger.missing() or "no GPU")
        return
    try:
        yield _timed(setting, tokens, liger.summed_cross_entropy, "Liger Kernel's")[0]
    except Exception as error:
        yield failed("Liger Kernel's", f"{type(error).__name__}: {error}"[:300])


def _tensors(setting: Setting, tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, a head as a fresh model has it, labels."""
    shape, device = setting.sizes.shape, setting.device
    torch.manual_seed(0)
    hidden = torch.randn(tokens, shape["n_embd"], device=device, requires_grad=True)
    weight = (torch.randn(shape["vocab_size"], shape["n_embd"], device=device) * 0.02).requires_grad_()
    return hidden, weight, torch.randint(shape["vocab_size"], (tokens,), device=device)


def _work(setting: Setting, tokens: int, loss: Callable) -> Callable[[], torch.Tensor]:
    hidden, weight, labels = _tensors(setting, tokens)
    half = matmul_rate.half_dtype(setting.device)

    def work() -> torch.Tensor:
        hidden.grad = weight.grad = None
        with torch.autocast(setting.device, dtype=half):
            (loss(hidden, weight, labels) / tokens).backward()
        return weight.grad

    return work


def _timed(
    setting: Setting, tokens: int, loss: Callable, name: str = "as many as it takes itself"
) -> tuple[Row, float]:
    measure.forget(setting.device)
    time = measure.milliseconds(_work(setting, tokens, loss), setting.device, setting.sizes.rounds)
    rate = 6 * tokens * setting.sizes.shape["n_embd"] * setting.sizes.shape["vocab_size"] / time / 1e9
    unit = f"ms, {rate:,.3g} TFLOP/s, {measure.peak_gigabytes(setting.device):.2f} GB"
    return number(f"{name}: {tokens:,} tokens", time, unit), time


def _against_the_formula(setting: Setting) -> Iterator[Row]:
    """Loss and gradients beside torch's cross-entropy in fp64; in half precision, to its rounding."""
    few = setting.sizes.loss_tokens[1] // 2
    hidden, weight, labels = _tensors(setting, few)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    F.cross_entropy(exact[0] @ exact[1].t(), labels).backward()
    with torch.autocast(setting.device, dtype=matmul_rate.half_dtype(setting.device)):
        (summed_cross_entropy(hidden, weight, labels) / few).backward()
    pairs = zip(("hidden states", "head"), (hidden, weight), exact, strict=True)
    for name, ours, wanted in pairs:
        apart = (ours.grad.double() - wanted.grad).norm() / wanted.grad.norm()
        yield number(f"gradient of the {name}: error to its size", apart.item(), at_most=0.02)
