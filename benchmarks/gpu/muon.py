"""Muon's step: matrices of one shape as a stack, beside torch's loop over them."""

from collections.abc import Iterator

import torch
from torch.optim import Muon
from transformers import GPT2Config, TrainingArguments

from benchmarks.gpu import measure
from benchmarks.gpu.rows import Row, number
from benchmarks.gpu.setting import Setting
from clm.model.gpt2 import GPT2LMHeadModel, from_config
from clm.training.muon import PiecewiseMuon
from clm.training.optim import MuonAndAdamW

MOST_LAUNCHES = 150  # of a step of Muon and AdamW with 12 layers


def check(setting: Setting) -> Iterator[Row]:
    """Prove that the stacked step moves weights as torch's loop does, starts a tenth of its kernels, and is faster.

    The iterations are in bf16, and other kernels round otherwise: hence a few hundredths between the two.
    """
    stacked, looped = _optimizer(setting), _optimizer(setting)
    apart = _updates_apart(stacked, looped)
    yield number("updates, stacked and looped: difference to their size", apart, at_most=0.05)
    device, rounds = setting.device, max(2, setting.sizes.rounds // 4)
    times, launches = {}, {}
    for name, optimizer, step in (("loop", looped, Muon.step), ("stacked", stacked, PiecewiseMuon.step)):
        muon = _of(optimizer)
        times[name] = measure.milliseconds(lambda muon=muon, step=step: step(muon), device, rounds)
        yield number(f"Muon's step, {name}", times[name], "ms")
        launches[name] = measure.launches(lambda muon=muon, step=step: step(muon), device)
        yield number(f"Muon's launches, {name}", launches[name])
    yield number("stacked, times the loop's speed", times["loop"] / times["stacked"], at_least=1.0)
    yield number("stacked, share of the loop's launches", launches["stacked"] / max(1, launches["loop"]), at_most=0.1)
    yield number("the whole step, AdamW's part with it", measure.milliseconds(stacked.step, device, rounds), "ms")
    in_all = measure.launches(stacked.step, device)
    yield number("launches of the whole step", in_all, at_least=1, at_most=MOST_LAUNCHES)


def _model(setting: Setting) -> GPT2LMHeadModel:
    shape = dict(setting.sizes.shape)
    config = GPT2Config(n_positions=shape.pop("block_size"), bos_token_id=0, eos_token_id=0, **shape)
    torch.manual_seed(0)
    return from_config(config).to(setting.device)


def _optimizer(setting: Setting) -> MuonAndAdamW:
    """An optimizer whose gradients are there; the same each time."""
    model = _model(setting)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight) * 0.01
    args = TrainingArguments(learning_rate=1e-3, weight_decay=0.1, report_to="none", use_cpu=setting.rehearsal)
    return MuonAndAdamW(model, args)


def _of(optimizer: MuonAndAdamW) -> PiecewiseMuon:
    """Its Muon, with the state that a step of both gives it."""
    optimizer.step()
    return optimizer._muon


def _updates_apart(stacked: MuonAndAdamW, looped: MuonAndAdamW) -> float:
    """The difference of one step's updates to their size, over all matrices."""
    moved = []
    for optimizer, step in ((stacked, PiecewiseMuon.step), (looped, Muon.step)):
        weights = [weight for group in optimizer._muon.param_groups for weight in group["params"]]
        before = [weight.detach().clone() for weight in weights]
        step(optimizer._muon)
        moved.append(torch.cat([(weight - old).flatten() for weight, old in zip(weights, before, strict=True)]))
    return ((moved[0] - moved[1]).norm() / moved[1].norm()).item()
