"""Numbers that are no loss: what a mean cross-entropy of tokens can't be."""

import math


def refusal(loss: float, tokens_per_step: int, micro_batch_tokens: int, vocab_size: int) -> str | None:
    """Why a number is no loss that can be explained, and what to do; None where it is one."""
    uniform = math.log(vocab_size)
    if math.isnan(loss) or math.isinf(loss):
        return (
            "the run has broken down: a weight or a gradient became NaN or infinite, and no later step mends that. Go "
            "back to the last checkpoint before it, and train on with half the learning rate or a longer warmup, "
            "max_grad_norm 1.0 and bf16 in place of fp16; if it comes back at the same step, look at that batch"
        )
    if loss < 0:
        return "a mean cross-entropy of tokens is never negative: it is another loss, or has the wrong sign"
    if loss > 10 * uniform:
        by_step, by_batch = loss / tokens_per_step, loss / micro_batch_tokens
        return (
            f"no mean over tokens: a model that knows nothing has ln({vocab_size:,}) = {uniform:.2f}. If it is a sum, "
            f"divide by its tokens: {by_step:.3g} over a step's {tokens_per_step:,}, {by_batch:.3g} over a "
            f"micro-batch's {micro_batch_tokens:,}"
        )
    return None
