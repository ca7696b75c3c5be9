"""Muon for the blocks' matrices and AdamW for the rest, as one optimizer (`optim: muon`)."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer
from transformers import TrainingArguments

from clm.errors import UserError

MUON = "muon"


class MuonAndAdamW(Optimizer):
    """Muon on the two-dimensional weights of a GPT-2's blocks; AdamW on embeddings, LayerNorms and biases.

    Both take the same learning rate and weight decay: Muon's step is scaled to the size of AdamW's (Liu et al. 2025,
    *Muon is Scalable for LLM Training*, arXiv 2502.16982). Biases and LayerNorms don't decay.

    Args:
        model: a GPT-2 with its head.
        args: learning_rate, weight_decay, adam_beta1, adam_beta2 and adam_epsilon.
    """

    def __init__(self, model: torch.nn.Module, args: TrainingArguments) -> None:
        matrices = [weight for weight in model.transformer.h.parameters() if weight.ndim == 2]
        taken = {id(weight) for weight in matrices}
        rest = [weight for weight in model.parameters() if id(weight) not in taken]
        others = [
            {"params": [weight for weight in rest if weight.ndim == 2], "weight_decay": args.weight_decay},
            {"params": [weight for weight in rest if weight.ndim != 2], "weight_decay": 0.0},
        ]
        rate, betas = args.learning_rate, (args.adam_beta1, args.adam_beta2)
        self._muon = Muon(matrices, lr=rate, weight_decay=args.weight_decay, adjust_lr_fn="match_rms_adamw")
        self._adamw = AdamW(others, lr=rate, betas=betas, eps=args.adam_epsilon, fused=True)
        super().__init__(self._muon.param_groups + self._adamw.param_groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state and preparing for a device replace these, here only: the two have none of their own.
        self._muon.state = self._adamw.state = self.state
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self._muon.step()
        self._adamw.step()
        return loss


def training_arguments(training: dict[str, Any]) -> TrainingArguments:
    """TrainingArguments of these keywords, whose `optim` may be `muon`, which its own check wouldn't let through."""
    own = training.get("optim") == MUON
    args = TrainingArguments(**{key: value for key, value in training.items() if key != "optim" or not own})
    if own:
        args.optim = MUON
    return args


def check_launch(optim: str) -> None:
    """Stop a launch under which Muon would see pieces of a matrix, whose orthogonalisation is another one.

    FSDP2's shares multiply as whole matrices do, so there it is right.

    Raises:
        UserError: it is DeepSpeed.
    """
    if optim == MUON and os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("1", "true", "yes"):
        raise UserError(
            "optim muon needs whole matrices, and the accelerate file asks for DeepSpeed, which cuts them up: set "
            "optim to adamw_torch_fused, or launch without it"
        )
