"""Next-token cross-entropy from hidden states, without ever holding the logits of a whole batch.

The logits of one 4 x 1024 batch over 32,000 ids are half a gigabyte in fp32, their gradient another half. Here both
exist for one chunk of rows at a time: the chunk's logits give its losses and, at once, its share of the gradients, so
that the backward pass has only to scale what is already there (the idea of Liger Kernel's fused linear cross-entropy,
Hsu et al. 2024, arXiv 2410.10989).

A CPU wants chunks that stay in its cache, a GPU few and large kernels (`chunks.py`). Nothing here reads a number back
from a GPU.
"""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from clm.data.blocks import IGNORED
from clm.model.chunks import of_device

# fp16 has nothing between 0 and 6e-8 and nothing above 65,504. So the gradient by the logits is taken times GRAD_SCALE,
# which keeps probabilities down to 1e-9, and the hidden states times HIDDEN_SCALE, which keeps the sum over the 16,384
# tokens of a chunk in range. A GradScaler scales the loss, which is too late for both: they are made in the forward.
GRAD_SCALE = 2.0**6
HIDDEN_SCALE = 2.0**-8
SOFT_PARTS = 4  # of a chunk, one at a time: soft targets need about four times the buffers of labels

# Some rows of the batch and their labels (rows, 1) -> what they have to predict: probabilities (rows, vocab_size) in
# fp32, each row's sum 1.
Targets = Callable[[slice, torch.Tensor], torch.Tensor]


def compute_dtype(hidden: torch.Tensor) -> torch.dtype:
    """The dtype of matmuls: autocast's where it is on, since it doesn't reach into what we write ourselves."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return hidden.dtype


def _chunk(
    hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, grad: torch.Tensor, scale: float, piece: int
) -> torch.Tensor:
    """The loss of each row; its gradient by the row's logits, softmax minus the one-hot label, goes to `grad`.

    Args:
        hidden: (rows, n_embd).
        weight: (vocab_size, n_embd).
        target: (rows, 1), labels that are ids.
        grad: (rows, vocab_size), where the logits lie until it has the gradient times `scale`.
        piece: rows whose probabilities, in fp32, are there at a time.
    """
    torch.mm(hidden, weight.t(), out=grad)
    losses = []
    for logits, label in zip(grad.split(piece), target.split(piece), strict=True):
        probs = logits.softmax(dim=-1, dtype=torch.float32)
        losses.append(_nats(logits, probs, label))
        probs.scatter_add_(1, label, torch.full_like(probs[:, :1], -1.0))
        logits.copy_(probs if scale == 1 else probs.mul_(scale))
    return torch.cat(losses)


def _nats(logits: torch.Tensor, probs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """-log of each row's probability of its label, also where that is 0 in fp32, which is beyond 103 nats."""
    if logits.device.type == "cpu":  # to look at numbers costs nothing there
        nats = -probs.gather(1, label)[:, 0].log()
        if nats.isfinite().all():
            return nats
    # log(sum(exp(logits))) by way of the largest probability, the one that can't underflow.
    return logits.amax(1).float() - probs.amax(1).log() - logits.gather(1, label)[:, 0].float()


def _chunk_in_place(
    hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, grad: torch.Tensor, scale: float, vocab_size: int
) -> torch.Tensor:
    """As `_chunk` in fewer passes over the logits, which lie in `grad` until they become their gradient.

    Columns of `weight` and `grad` beyond `vocab_size` are no ids: their probability and their gradient are 0.
    """
    torch.mm(hidden, weight.t(), out=grad)
    if grad.shape[1] > vocab_size:
        grad[:, vocab_size:].fill_(-math.inf)
    log_probs = grad.log_softmax(dim=-1, dtype=torch.float32)
    own = log_probs.gather(1, target)
    torch.exp(log_probs if scale == 1 else log_probs.add_(math.log(scale)), out=grad)
    grad.scatter_(1, target, (own.expm1() * scale).to(grad.dtype))
    return -own[:, 0]


def _soft_chunk(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    grad: torch.Tensor,
    scale: float,
    targets: Targets,
    first: int,
) -> torch.Tensor:
    """As `_chunk_in_place`, of the probabilities that `targets` gives for these rows, which begin with the `first`.

    The gradient by a row's logits is softmax minus what it has to predict.
    """
    wanted = targets(slice(first, first + len(target)), target)
    vocab_size = wanted.shape[1]
    log_probs = (hidden @ weight[:vocab_size].t()).log_softmax(dim=-1, dtype=torch.float32)
    losses = -torch.linalg.vecdot(wanted, log_probs)
    grad[:, :vocab_size] = log_probs.exp_().sub_(wanted).mul_(scale)
    grad[:, vocab_size:].zero_()
    return losses


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum of -log softmax(hidden @ weight.T)[label] over the labels that aren't IGNORED."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        dtype: torch.dtype,
        targets: Targets | None,
    ) -> torch.Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        vocab_size, cut = weight.shape[0], of_device(hidden.device, hidden.shape[0], weight.shape[0])
        scale, hidden_scale = (GRAD_SCALE, HIDDEN_SCALE) if dtype == torch.float16 else (1.0, 1.0)
        # Rows that aren't counted are blanked out here, in n_embd columns, rather than in vocab_size of them.
        blank = (labels == IGNORED)[:, None]
        cast_hidden, target = hidden.masked_fill(blank, 0).to(dtype), labels[:, None].masked_fill(blank, 0)
        summands = cast_hidden if hidden_scale == 1 else cast_hidden * hidden_scale
        cast_weight = weight.to(dtype)
        if cut.width > vocab_size:
            cast_weight = F.pad(cast_weight, (0, 0, 0, cut.width - vocab_size))
        rows = cut.rows if targets is None else -(-cut.rows // SOFT_PARTS)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = None
        for first in range(0, len(hidden), cut.group):
            some = slice(first, first + cut.group)
            grad = torch.empty(len(labels[some]), cut.width, dtype=dtype, device=hidden.device)
            for start in range(0, len(grad), rows):
                here = slice(start, start + rows)
                chunk = cast_hidden[some][here], cast_weight, target[some][here], grad[here], scale
                if targets is not None:
                    losses = _soft_chunk(*chunk, targets, first + start)
                else:
                    losses = _chunk_in_place(*chunk, vocab_size) if cut.in_place else _chunk(*chunk, cut.piece)
                total += losses.masked_fill(blank[some][here][:, 0], 0).sum()
            if needs_hidden:
                grad_hidden[some] = grad @ cast_weight
            if needs_weight:
                of_group = (grad.t() @ summands[some])[:vocab_size]
                grad_weight = of_group.float() if grad_weight is None else grad_weight.add_(of_group)
        if needs_hidden:
            grad_hidden.masked_fill_(blank, 0)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype, ctx.scales = weight.dtype, (scale, scale * hidden_scale)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_output: torch.Tensor) -> tuple:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale_of_hidden, scale_of_weight = ctx.scales
        if grad_hidden is not None:
            grad_hidden = grad_hidden * (grad_output / scale_of_hidden).to(grad_hidden.dtype)
        if grad_weight is not None:
            # In place, since it is large. Autograd refuses a second pass then.
            grad_weight = grad_weight.mul_(grad_output / scale_of_weight).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None, None


@torch.compiler.disable
def summed_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, targets: Targets | None = None
) -> torch.Tensor:
    """Nats, summed over all labels that aren't IGNORED, as a float32 scalar.

    torch.compile would write out every turn of its loops: it stays as it is, behind what is compiled.

    Args:
        hidden: (..., n_embd), the states that the head would turn into logits.
        weight: (vocab_size, n_embd), the head without bias.
        labels: (...), int64, aligned: labels[i] is what hidden[i] has to predict.
        targets: probabilities to be predicted in the place of the labels, asked for a few rows at a time.
    """
    hidden = hidden.reshape(-1, hidden.shape[-1])
    return _SummedCrossEntropy.apply(hidden, weight, labels.reshape(-1), compute_dtype(hidden), targets)


@torch.no_grad()
def token_losses(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Nats of every label, float32 in the shape of `labels`, 0 where it is IGNORED; for evaluation."""
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), labels.reshape(-1)
    losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
    cut = of_device(hidden.device, len(flat), weight.shape[0])
    chunks = (each.split(cut.rows) for each in (flat, targets, losses))
    for states, labels_of_chunk, losses_of_chunk in zip(*chunks, strict=True):
        logits = states @ weight.t()
        pieces = (each.split(cut.piece) for each in (logits, labels_of_chunk, losses_of_chunk))
        for some, target, out in zip(*pieces, strict=True):
            out.copy_(F.cross_entropy(some.float(), target, ignore_index=IGNORED, reduction="none"))
    return losses.reshape(labels.shape)
