"""Muon for the blocks' matrices and AdamW for the rest, as one optimizer (`optim: muon`)."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer
from transformers import TrainingArguments

from clm.config.optim_args import muon_settings
from clm.training.muon import PiecewiseMuon


class MuonAndAdamW(Optimizer):
    """Muon on the two-dimensional weights of a GPT-2's blocks; AdamW on embeddings, LayerNorms and biases.

    Query, key and value, which GPT-2 keeps side by side in one matrix, are taken as three. Both optimizers take the
    same learning rate and weight decay: Muon's step is scaled to the size of AdamW's (Liu et al. 2025, *Muon is
    Scalable for LLM Training*, arXiv 2502.16982). Biases and LayerNorms don't decay. Embeddings may take more than the
    rate, or less, and position embeddings a share of their own: Adam gives each of their rows a whole step for what is
    mostly noise, of one token a sequence. So may vectors, which are biases and LayerNorms.

    Args:
        model: a GPT-2 with its head.
        args: learning_rate, weight_decay, adam_beta1, adam_beta2 and adam_epsilon. optim_args may hold `momentum`
            and `ns_steps`, Muon's, and the shares of the rate that `embeddings`, `positions` (by default as embeddings)
            and `vectors` take.
    """

    def __init__(self, model: torch.nn.Module, args: TrainingArguments) -> None:
        blocks = [(name, weight) for name, weight in model.transformer.h.named_parameters() if weight.ndim == 2]
        taken = {id(weight) for _, weight in blocks}
        matrices = [
            {"params": [weight for name, weight in blocks if "c_attn" not in name], "pieces": 1},
            {"params": [weight for name, weight in blocks if "c_attn" in name], "pieces": 3},
        ]
        rest = [weight for weight in model.parameters() if id(weight) not in taken]
        rate, betas = args.learning_rate, (args.adam_beta1, args.adam_beta2)
        given = muon_settings(args.optim_args)
        decays = {"weight_decay": args.weight_decay}
        tables, vectors = ([each for each in rest if (each.ndim == 2) is table] for table in (True, False))
        others = [
            {"params": tables, "lr": rate * given.embeddings, **decays},
            {"params": vectors, "lr": rate * given.vectors, "weight_decay": 0.0},
        ]
        # A group of their own; without it states are as they were before these settings.
        if given.positions != given.embeddings:
            places = model.transformer.wpe.weight
            others[0]["params"] = [weight for weight in tables if weight is not places]
            others.append({"params": [places], "lr": rate * given.positions, **decays})
        self._muon = PiecewiseMuon(
            matrices,
            lr=rate,
            weight_decay=args.weight_decay,
            momentum=given.momentum,
            ns_steps=given.ns_steps,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = AdamW(others, lr=rate, betas=betas, eps=args.adam_epsilon, fused=True)
        # Schedules that are given a rate, as min_lr, look for the whole one in the defaults.
        super().__init__(self._muon.param_groups + self._adamw.param_groups, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state and preparing for a device replace these, here only: the two have none of their own.
        self._muon.state = self._adamw.state = self.state
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:2], self.param_groups[2:]
        self._muon.step()
        self._adamw.step()
        return loss
