"""Tokens a second, MFU and peak memory: micro-batches, compiled or not, by either loss, beside the stock Trainer."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.gpu import measure
from benchmarks.gpu.commands import CommandFailed, micro_batch_of, train_here
from benchmarks.gpu.rows import Row, failed, left_out, number
from benchmarks.gpu.setting import Setting
from benchmarks.train_standard import by_trainer
from clm.launch import acceleration
from clm.model import liger

SECONDS = {False: 12.0, True: 80.0}  # that a cell may take, eager or compiled; with less left it isn't begun
ASSUMED_MFU = 0.4  # what `plan` assumes of a GPU


@dataclass(frozen=True)
class Speed:
    """Of a cell; `mfu` is None where the card's peak isn't known."""

    tokens_per_second: float
    memory_gb: float
    mfu: float | None = None


def check(setting: Setting) -> Iterator[Row]:
    """Prove that training reaches the share of the peak that `plan` assumes, and is no slower than the stock Trainer.

    All cells are of one process and one shape: `run_clm.py`'s own main, one micro-batch a step, without dropout. The
    stock Trainer has its own loss and fused AdamW in the same precision. A cell too large for the card says so.
    """
    one_card()
    sizes, found = setting.sizes, {}
    no_liger = liger.missing() or (setting.rehearsal and "no GPU") or _fault_of_liger()
    own = [(batch, False, False) for batch in sizes.micro_batches]
    by_liger = [(batch, False, True) for batch in sizes.compiled]
    compiled = [(batch, True, by) for by in (False, True) for batch in sizes.compiled]
    yield from _stock(setting, found)
    for batch, is_compiled, use_liger in [*own, *by_liger, *compiled]:
        name = f"{batch} x {'compiled' if is_compiled else 'eager'}, {'Liger' if use_liger else 'own'} loss"
        if use_liger and no_liger:
            yield left_out(name, no_liger)
        elif setting.left() < SECONDS[is_compiled]:
            yield left_out(name, "too little time was left")
        else:
            keys = {"torch_compile": is_compiled, "use_liger_kernel": use_liger}
            yield from _cell(name, setting, found, batch, **keys)
    best = max((cell.mfu for name, cell in found.items() if cell.mfu and "stock" not in name), default=None)
    if best is not None:
        yield number("the best MFU", best, at_least=ASSUMED_MFU)
    beside = {name.split()[0]: cell for name, cell in found.items() if "stock" in name}
    for batch, stock in beside.items():
        if ours := found.get(f"{batch} x eager, own loss"):
            share = ours.tokens_per_second / stock.tokens_per_second
            yield number(f"{batch} x ours, times the stock Trainer", share, at_least=1.0)
            yield number(f"{batch} x ours, memory to the stock Trainer's", ours.memory_gb / stock.memory_gb, at_most=1)


def one_card() -> None:
    """Hide all cards but one, before any is used: the stock Trainer would take them all."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def _fault_of_liger() -> str | None:
    return acceleration.fault_of(liger.try_out, torch.device("cuda"))


def train(setting: Setting, batch: int, **keys: Any) -> Speed:
    """Speed of as many steps as `sizes.steps`, after as many to warm up.

    Raises:
        CommandFailed: the run failed, or went on with smaller micro-batches, which is another speed.
    """
    steps = setting.sizes.steps
    measure.forget(setting.device)
    recipe = setting.recipe(
        setting.sizes.shape,
        per_device_train_batch_size=batch,
        max_steps=2 * steps,
        logging_steps=steps,
        **keys,
    )
    with tempfile.TemporaryDirectory(prefix="speed-", dir=setting.folder) as folder:  # a model each, freed at once
        log = [entry for entry in train_here(recipe, Path(folder) / "run") if "tokens_per_second" in entry]
        ran = micro_batch_of(Path(folder) / "run")
    if ran != batch:
        raise CommandFailed(f"out of memory with {batch}, and the run went on with {ran}")
    return Speed(log[-1]["tokens_per_second"], measure.peak_gigabytes(setting.device), log[-1].get("mfu"))


def rows_of(name: str, speed: Speed) -> Iterator[Row]:
    """A cell's."""
    mfu = "" if speed.mfu is None else f", MFU {speed.mfu:.1%}"
    yield number(name, speed.tokens_per_second, f"tokens/s, {speed.memory_gb:.2f} GB{mfu}")


def _cell(name: str, setting: Setting, found: dict[str, Speed], batch: int, **keys: Any) -> Iterator[Row]:
    try:
        found[name] = train(setting, batch, **keys)
    except Exception as error:  # the other cells are worth having
        yield _without(name, error)
        return
    yield from rows_of(name, found[name])


def _without(name: str, error: Exception) -> Row:
    """The row of a cell that has no speed."""
    if isinstance(error, CommandFailed) and str(error).startswith("out of memory"):
        return left_out(name, str(error))
    if measure.out_of_memory(error):
        return left_out(name, "out of memory")
    return failed(name, f"{type(error).__name__}: {error}"[:300])


def _stock(setting: Setting, found: dict[str, Speed]) -> Iterator[Row]:
    """The stock Trainer at the second micro-batch, in the precision that ours has."""
    sizes, batch = setting.sizes, setting.sizes.micro_batches[1]
    shape = {key: value for key, value in sizes.shape.items() if key != "block_size"}
    block_size, ends = sizes.shape["block_size"], {"bos_token_id": 0, "eos_token_id": 0}
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    blocks = torch.randint(shape["vocab_size"], (batch * (2 * sizes.steps + 1), block_size))
    half = setting.device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    precision = {"bf16": half, "fp16": setting.device == "cuda" and not half, "use_cpu": setting.rehearsal}
    measure.forget(setting.device)
    name = f"{batch} x the stock Trainer"
    try:
        model = GPT2LMHeadModel(GPT2Config(**shape, **ends, **none, n_positions=block_size))
        seconds = by_trainer(model, blocks, batch, 2 * sizes.steps, **precision)[sizes.steps :]
    except Exception as error:
        yield _without(name, error)
        return
    rate = batch * block_size * len(seconds) / sum(seconds)
    found[name] = Speed(rate, measure.peak_gigabytes(setting.device))
    yield from rows_of(name, found[name])
