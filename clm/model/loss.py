"""Next-token cross-entropy from hidden states, without ever holding the logits of a whole batch.

The logits of one 4 x 1024 batch over 32,000 ids are half a gigabyte in fp32, their gradient another half. Here both
exist for one chunk of rows at a time: the chunk's logits give its losses and, at once, its share of the gradients, so
that the backward pass has only to scale what is already there (the idea of Liger Kernel's fused linear cross-entropy,
Hsu et al. 2024, arXiv 2410.10989).
"""

import torch

from clm.data.blocks import IGNORED

CHUNK_ELEMENTS = 2**22  # of logits at a time: 16 MB in fp32
GROUP_ELEMENTS = 2**26  # of their gradient kept for one matmul into the weight's: 128 MB in bf16


def _chunk_rows(vocab_size: int) -> int:
    return max(16, CHUNK_ELEMENTS // vocab_size)


def compute_dtype(hidden: torch.Tensor) -> torch.dtype:
    """The dtype of matmuls: autocast's where it is on, since it doesn't reach into what we write ourselves."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return hidden.dtype


def _chunk(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """The summed loss of some rows; its gradient by their logits, softmax minus the one-hot label, goes to `grad`."""
    logits = hidden @ weight.t()
    counted = labels != IGNORED
    target = labels.where(counted, 0)[:, None]
    probs = logits.softmax(dim=-1, dtype=torch.float32)
    # log(sum(exp(logits))) by way of the largest probability, the one that can't underflow.
    normalizer = logits.amax(1).float() - probs.amax(1).log()
    losses = normalizer - logits.gather(1, target)[:, 0].float()
    probs.scatter_add_(1, target, torch.full_like(probs[:, :1], -1.0))
    grad.copy_(probs)
    grad[~counted] = 0
    return losses.where(counted, 0).sum()


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum of -log softmax(hidden @ weight.T)[label] over the labels that aren't IGNORED."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        cast_hidden, cast_weight = hidden.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        rows = _chunk_rows(weight.shape[0])
        group = rows * max(1, GROUP_ELEMENTS // weight.shape[0] // rows)
        for first in range(0, hidden.shape[0], group):
            some = slice(first, first + group)
            grad = torch.empty(len(labels[some]), weight.shape[0], dtype=dtype, device=hidden.device)
            for start in range(0, len(grad), rows):
                here = slice(start, start + rows)
                total += _chunk(cast_hidden[some][here], cast_weight, labels[some][here], grad[here])
            if needs_hidden:
                grad_hidden[some] = grad @ cast_weight
            if needs_weight:
                grad_weight += grad.t() @ cast_hidden[some]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_output: torch.Tensor) -> tuple:
        grad_hidden, grad_weight = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = grad_hidden * grad_output.to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight = (grad_weight * grad_output).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None


@torch.compiler.disable
def summed_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Nats, summed over all labels that aren't IGNORED, as a float32 scalar.

    torch.compile would write out every turn of its loops: it stays as it is, behind what is compiled.

    Args:
        hidden: (..., n_embd), the states that the head would turn into logits.
        weight: (vocab_size, n_embd), the head without bias.
        labels: (...), int64, aligned: labels[i] is what hidden[i] has to predict.
    """
    hidden = hidden.reshape(-1, hidden.shape[-1])
    return _SummedCrossEntropy.apply(hidden, weight, labels.reshape(-1), compute_dtype(hidden))


@torch.no_grad()
def token_losses(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Nats of every label, float32 in the shape of `labels`, 0 where it is IGNORED; for evaluation."""
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), labels.reshape(-1)
    losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
    rows = _chunk_rows(weight.shape[0])
    for start in range(0, flat.shape[0], rows):
        chunk = slice(start, start + rows)
        logits = (flat[chunk] @ weight.t()).float()
        losses[chunk] = torch.nn.functional.cross_entropy(
            logits, targets[chunk], ignore_index=IGNORED, reduction="none"
        )
    return losses.reshape(labels.shape)
