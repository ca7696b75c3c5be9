"""What Intel's matrix unit (AMX) changes on a CPU: matmuls become so fast that all else decides what is fastest.

torch's fused attention uses it, and its forward pass is twice as fast as plain matmuls. Its backward pass isn't. Here
plain matmuls go back, a block of keys against all queries that see it. They are as fast as that one at 1,024 tokens,
and four times as fast at 128 (docs/training-speed.md).
"""

from functools import cache

import torch

BLOCK = 256  # keys at a time
TILE = 2**21  # scores at a time, 4 MB in bf16: what two cores' L2 hold


@cache
def supported() -> bool:
    """Whether torch's bf16 matmuls use it here."""
    return torch.cpu._is_amx_tile_supported()


class CausalAttention(torch.autograd.Function):
    """Each token attends to itself and to those before it; states are (batch, heads, tokens, width), in bf16."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        out, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, True, scale=scale
        )
        ctx.save_for_backward(query, key, value, out, log_sums)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_out: torch.Tensor) -> tuple:
        query, key, value, out, log_sums = ctx.saved_tensors
        shape, width = query.shape, query.shape[-1]
        # Columns beside the states have the matmuls subtract, in fp32, what all scores of a query share.
        shared = (grad_out * out).sum(-1, dtype=torch.float32)
        queries, grads_out = _beside(query * ctx.scale, -log_sums), _beside(grad_out, -shared)
        keys, values = _beside(key), _beside(value)
        grad_query = torch.zeros(len(keys), shape[2], width)
        grad_key, grad_value = (torch.empty_like(grad_query, dtype=query.dtype) for _ in range(2))
        heads = max(1, TILE // (min(BLOCK, shape[2]) * shape[2]))
        for first in range(0, len(keys), heads):
            some = slice(first, first + heads)
            for start in range(0, shape[2], BLOCK):
                block, seeing = slice(start, start + BLOCK), slice(start, None)
                probs = _probabilities(keys[some, block], queries[some, seeing])
                grad_scores = (values[some, block] @ grads_out[some, seeing].transpose(1, 2)).mul_(probs)
                grad_value[some, block] = probs @ grads_out[some, seeing, :width]
                grad_key[some, block] = grad_scores @ queries[some, seeing, :width]
                grad_query[some, seeing] += grad_scores.transpose(1, 2) @ keys[some, block, :width]
        grad_query = grad_query.mul_(ctx.scale).to(query.dtype)
        return *(grad.view(shape) for grad in (grad_query, grad_key, grad_value)), None


def _beside(states: torch.Tensor, sums: torch.Tensor | None = None) -> torch.Tensor:
    """States as (batch x heads, tokens, width + 2), beside them `sums` in two parts, or ones that count these in.

    Args:
        states: (batch, heads, tokens, width), in bf16.
        sums: (batch, heads, tokens), in fp32; their first part is what bf16 keeps, the second one what it loses.
    """
    *rows, width = states.shape
    wider = states.new_ones(*rows, width + 2)
    wider[..., :width] = states
    if sums is not None:
        wider[..., width] = sums
        wider[..., width + 1] = sums - wider[..., width]
    return wider.flatten(0, 1)


def _probabilities(keys: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """(heads, keys of a block, queries from its first on), of keys and queries with their columns beside."""
    scores = keys @ queries.transpose(1, 2)
    size = keys.shape[1]
    own = scores[:, :, :size]  # the only queries before some of the keys
    own.add_(torch.full((size, size), float("-inf"), dtype=own.dtype).tril_(-1))  # faster than masked_fill_
    return scores.exp_()
