"""Candidates that aren't in the product, as small patches of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from clm.data.blocks import Blocks
from clm.training import muon, optim, schedule


def optimizer_with(parts: dict[str, Any]) -> type:
    """MuonAndAdamW with rates and decay of their own, and other rules of decay."""

    class Changed(optim.MuonAndAdamW):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            matrices, _, embeddings, vectors = self.param_groups
            embeddings["lr"] *= parts.get("embedding rate", 1)
            embeddings["weight_decay"] *= parts.get("embedding wd", 1)
            vectors["lr"] *= parts.get("1-d rate", 1)
            vectors["weight_decay"] = matrices["weight_decay"] * parts.get("1-d wd", 0)
            self.peaks = [(group["lr"], group["weight_decay"]) for group in self.param_groups]

        @torch.no_grad()
        def step(self, closure: Callable | None = None) -> Any:
            rule = parts.get("decay")
            power = {"constant": -1, "squared": 1}.get(rule, 0)
            for group, (rate, decay) in zip(self.param_groups, self.peaks, strict=True):
                group["weight_decay"] = decay * (group["lr"] / rate) ** power if group["lr"] else 0.0
            if rule != "cautious":
                return super().step(closure)
            decays = [group["weight_decay"] for group in self.param_groups]
            before = [[weight.clone() for weight in group["params"]] for group in self.param_groups]
            for group in self.param_groups:
                group["weight_decay"] = 0.0
            loss = super().step(closure)
            for group, decay, olds in zip(self.param_groups, decays, before, strict=True):
                group["weight_decay"] = decay
                for weight, old in zip(group["params"], olds, strict=True):
                    agree = (old - weight) * old > 0  # the update itself shrinks the weight
                    weight.sub_(group["lr"] * decay * old * agree)
            return loss

    return Changed


def rows_balanced() -> Any:
    """MuonEq-R: rows of equal norm go into the iterations (here those of the matrix as they take it)."""
    plain = muon.newton_schulz

    def balanced(matrices: torch.Tensor, *rest: object) -> torch.Tensor:
        norms = torch.linalg.vector_norm(matrices.float(), dim=2, keepdim=True).clamp(min=1e-12)
        return plain((matrices / norms).to(matrices.dtype), *rest)

    return patch.object(muon, "newton_schulz", balanced)


def normuon(beta: float = 0.95) -> Any:
    """NorMuon (Li et al. 2025, arXiv 2510.05491): each neuron's update over the root of its mean square."""
    plain, squares, steps = muon._orthogonalised, {}, {}

    def normalised(stack: list) -> torch.Tensor:
        update = plain(stack).float()
        start = 0
        for matrix in stack:
            count = matrix.group["pieces"]
            ours = update[start : start + count]
            dim = (
                1 if matrix.shape[0] <= matrix.shape[1] else 2
            )  # over a neuron's inputs; weights are (inputs, outputs)
            square = ours.square().mean(dim, keepdim=True)
            key = id(matrix.weight)
            squares[key] = beta * squares.get(key, 0) + (1 - beta) * square
            steps[key] = steps.get(key, 0) + 1
            changed = ours / (squares[key] / (1 - beta ** steps[key])).sqrt().add(1e-8)
            norms = [torch.linalg.vector_norm(each, dim=(1, 2), keepdim=True) for each in (ours, changed)]
            update[start : start + count] = changed * norms[0] / norms[1]
            start += count
        return update

    return patch.object(muon, "_orthogonalised", normalised)


def depth_drop(share: float) -> Any:
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): a sample passes a block by, by this chance."""
    plain = GPT2Block.forward

    def dropped(block: GPT2Block, hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        out = plain(block, hidden, *args, **kwargs)
        if not block.training:
            return out
        kept = (torch.rand(len(hidden), 1, 1) >= share).float() / (1 - share)
        return hidden + (out - hidden) * kept

    return patch.object(GPT2Block, "forward", dropped)


def documents_shuffled() -> Any:
    """Documents in another order in every epoch, before blocks are cut: an epoch is known by its shift."""
    plain = Blocks.__getitems__

    class Text:
        def __init__(self, store: Any, shift: int) -> None:
            documents = np.split(store.span(0, store.tokens), store.ends[:-1])
            order = np.random.default_rng(shift).permutation(len(documents))
            self.ids = np.concatenate([documents[number] for number in order])
            self.tokens = store.tokens

        def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
            return self.ids[starts[:, None] + np.arange(length)]

    texts: dict[int, Text] = {}

    def shuffled(blocks: Blocks, samples: np.ndarray) -> dict[str, torch.Tensor]:
        shift = int(np.max(samples)) // blocks.size
        if shift not in texts:
            texts[shift] = Text(blocks.store, shift)
        with patch.object(blocks, "store", texts[shift]):
            return plain(blocks, samples)

    return patch.object(Blocks, "__getitems__", shuffled)


def falling_at_the_end(share: float) -> Any:
    """The rate stays, and falls to 0 over the last share of the steps."""
    plain = schedule.scheduler

    def scheduler(optimizer: torch.optim.Optimizer, training: dict, total_steps: int) -> Any:
        made = plain(optimizer, training, total_steps)
        rises = made.lr_lambdas[0]

        def factor(step: int) -> float:
            return rises(step) * min(1.0, (total_steps - step) / (total_steps * share))

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    return patch.object(schedule, "scheduler", scheduler)


class Mean(TrainerCallback):
    """A mean of the weights: of the last share of the steps, or one that forgets; in the model where it is scored."""

    def __init__(self, share: float | None, ema: float | None) -> None:
        self.share, self.ema, self.count, self.mean = share, ema, 0, {}

    def on_step_end(self, args: object, state: Any, control: object, model: torch.nn.Module, **_: object) -> None:
        if self.share and state.global_step <= state.max_steps * (1 - self.share):
            return
        self.count += 1
        new = 1 / self.count if self.share else max(1 - self.ema, 1 / self.count)
        for name, weight in model.named_parameters():
            mean = self.mean.setdefault(name, weight.detach().clone())
            mean.lerp_(weight.detach(), new)

    @contextmanager
    def inside(self, model: torch.nn.Module) -> Iterator[None]:
        """The mean in the model's weights, and these back."""
        if not self.mean:
            yield
            return
        kept = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(self.mean[name])
            yield
            for name, weight in model.named_parameters():
                weight.copy_(kept[name])


@contextmanager
def patched(parts: dict[str, Any]) -> Iterator[None]:
    """All patches of a row."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(optim, "MuonAndAdamW", optimizer_with(parts)))
        for name, made in (("rows balanced", rows_balanced), ("normuon", normuon)):
            if name in parts:
                stack.enter_context(made())
        if "documents shuffled" in parts:
            stack.enter_context(documents_shuffled())
        if "depth drop" in parts:
            stack.enter_context(depth_drop(parts["depth drop"]))
        if "wsd" in parts:
            stack.enter_context(falling_at_the_end(parts["wsd"]))
        yield
