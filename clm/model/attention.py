"""Causal self-attention for training, under transformers' own interface.

Where a GPU is, or dropout, or fp32, it is torch's fused attention, told that it is causal, so that no mask is made.
On a CPU in bf16 that kernel reaches a sixth of the speed of plain matmuls; there the matmuls do it, a block of queries
at a time against the keys up to its end, and the backward pass computes the probabilities anew (the idea of
FlashAttention, Dao et al. 2022, arXiv 2205.14135). With AMX the kernel goes forward and matmuls back
(`amx.py`).
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from clm.model import amx

NAME = "clm_causal"
AMX = amx.supported()
BLOCK = 128  # queries at a time; 256 take a quarter longer at 256 tokens, about as long at 1,024


def causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend, each token to itself and those before it.

    Args:
        module: not used; the interface passes it.
        query: (batch, heads, new tokens, width of a head).
        key: (batch, heads, tokens, width of a head); more than the queries where a cache holds earlier ones.
        value: as key.
        attention_mask: must be None: texts are padded on the right, where causality hides what is beyond.
        dropout: share of the probabilities that is dropped.
        scaling: of the scores; 1 / sqrt(width of a head) by default.

    Returns:
        (batch, new tokens, heads, width of a head), and None for the probabilities.
    """
    if attention_mask is not None:
        raise ValueError("this attention takes no mask: pad on the right")
    whole = query.shape[2] == key.shape[2]
    if not whole and query.shape[2] > 1:
        raise ValueError("this attention takes one new token at a time after those in a cache")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if not (query.device.type == "cpu" and query.dtype == torch.bfloat16 and dropout == 0 and whole):
        out = scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=whole, scale=scale)
    elif AMX:
        out = amx.CausalAttention.apply(query, key, value, scale)
    else:
        out = _BlockwiseAttention.apply(*(states.flatten(0, 1) for states in (query, key, value)), scale)
        out = out.unflatten(0, query.shape[:2])
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, causal_attention)


class _BlockwiseAttention(torch.autograd.Function):
    """Of (batch x heads, tokens, width), which the matmuls want contiguous."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        out, query = torch.empty_like(query), query * scale
        for block, keys in _blocks(query.shape[1]):
            out[:, block] = _probabilities(query[:, block], key[:, keys]) @ value[:, keys]
        ctx.save_for_backward(query, key, value, out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_out: torch.Tensor) -> tuple:
        query, key, value, out = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        grad_key, grad_value = (torch.zeros_like(states, dtype=torch.float32) for states in (key, value))
        # What all probabilities of a query share: the sum over keys of probability times its gradient.
        shared = (grad_out * out).sum(-1, keepdim=True)
        for block, keys in _blocks(query.shape[1]):
            probs = _probabilities(query[:, block], key[:, keys])
            grad_value[:, keys] += probs.transpose(1, 2) @ grad_out[:, block]
            grad_scores = grad_out[:, block] @ value[:, keys].transpose(1, 2)
            grad_scores.sub_(shared[:, block]).mul_(probs)
            grad_query[:, block] = grad_scores @ key[:, keys]
            grad_key[:, keys] += grad_scores.transpose(1, 2) @ query[:, block]
        return grad_query.mul_(ctx.scale), grad_key.to(key.dtype), grad_value.to(value.dtype), None


def _blocks(tokens: int) -> list[tuple[slice, slice]]:
    """Blocks of queries, each with the keys that it may see."""
    stretches = [(start, min(start + BLOCK, tokens)) for start in range(0, tokens, BLOCK)]
    return [(slice(start, end), slice(0, end)) for start, end in stretches]


def _probabilities(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(batch x heads, queries of a block, keys), of scaled queries; the last keys are the queries' own tokens."""
    scores, size = query @ key.transpose(1, 2), query.shape[1]
    own = scores[:, :, -size:]  # the only keys of which some lie ahead
    own.add_(torch.full((size, size), float("-inf"), dtype=own.dtype).triu_(1))  # faster than masked_fill_
    return scores.softmax(dim=-1)
