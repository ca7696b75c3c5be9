"""Soft targets: the labels, mixed with what one or several teachers think of the next token.

The loss is the cross-entropy with that mixture (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, at temperature 1). The
teachers run forward to their last hidden states. Their logits exist for a few rows at a time, like the student's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GPT2LMHeadModel

from clm.model.flops import flops_per_token
from clm.model.loss import compute_dtype, summed_cross_entropy


@dataclass(frozen=True)
class Teachers:
    """Trained models that teach another one. They are no part of it: nothing of them is trained or saved.

    Attributes:
        models: in evaluation mode, on the student's device, each with the student's vocabulary.
        weight: of their mean probabilities in the mixture, above 0 and up to 1; the rest is the labels'.
    """

    models: Sequence[GPT2LMHeadModel]
    weight: float

    @torch.compiler.disable
    def summed_cross_entropy(
        self, input_ids: torch.Tensor, hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """As `loss.summed_cross_entropy`, with the mixture in the place of the labels.

        Args:
            input_ids: (batch, block_size) int64, from which student and teachers predict.
            hidden: (batch, block_size, n_embd), of the student.
            head: (vocab_size, n_embd), of the student.
            labels: (batch, block_size) int64, aligned.
        """
        dtype, said = compute_dtype(hidden), []
        with torch.no_grad():
            for model in self.models:
                states = model.transformer(input_ids, use_cache=False).last_hidden_state.flatten(0, 1)
                said.append((states.to(dtype), model.lm_head.weight.to(dtype)))

        def mixture(rows: slice, ids: torch.Tensor) -> torch.Tensor:
            mixed = None
            for states, weight in said:
                probs = (states[rows] @ weight.t()).softmax(dim=-1, dtype=torch.float32)
                mixed = probs if mixed is None else mixed.add_(probs)
            mixed.mul_(self.weight / len(said))
            return mixed.scatter_add_(1, ids, torch.full_like(mixed[:, :1], 1 - self.weight))

        return summed_cross_entropy(hidden, head, labels, mixture)

    def flops_per_token(self, block_size: int) -> float:
        """FLOPs of their forward passes: a third of what forward and backward take (`flops.flops_per_token`)."""
        total = 0.0
        for model in self.models:
            config = model.config
            in_matmuls = model.num_parameters() - config.n_positions * config.n_embd
            total += flops_per_token(in_matmuls, config.n_layer, config.n_embd, block_size) / 3
        return total
