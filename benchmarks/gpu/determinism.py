"""The same run twice, and once more from its middle: what is equal, with and without the deterministic switch."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu import speed
from benchmarks.gpu.commands import train_here
from benchmarks.gpu.rows import Row, number
from benchmarks.gpu.setting import Setting

TWICE = "the same steps twice: largest difference of a weight"
RESUMED = "half of them and a resume: largest difference of a weight"


def plain(setting: Setting) -> Iterator[Row]:
    """Show how far two equal runs come apart in 20 steps, and a resumed one from an undisturbed one.

    Nothing is promised but that a resume adds nothing: atomic sums in attention's backward pass come in any order. So
    a resumed run, which shares half its steps, may be no further off than ten times the distance of two runs.
    """
    twice, resumed = _distances(setting, "plain")
    yield number(TWICE, twice)
    yield number(RESUMED, resumed, at_most=max(1e-3, 10 * twice))


def switched(setting: Setting) -> Iterator[Row]:
    """Prove that `deterministic: true` gives the same bits twice and after a resume, and measure what it costs.

    The cost is that of torch's switch; cuBLAS's fixed workspace, which is read once a process, is there in both.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    twice, resumed = _distances(setting, "deterministic", deterministic=True)
    yield number(TWICE, twice, at_most=0)
    yield number(RESUMED, resumed, at_most=0)
    batch = setting.sizes.micro_batches[1]
    try:
        switched_on = speed.train(setting, batch, deterministic=True)
    finally:
        torch.use_deterministic_algorithms(False)
    yield from speed.rows_of(f"{batch} x deterministic", switched_on)
    without = speed.train(setting, batch)
    yield from speed.rows_of(f"{batch} x not", without)
    yield number("speed that is left", switched_on.tokens_per_second / without.tokens_per_second)


def _distances(setting: Setting, name: str, **keys: Any) -> tuple[float, float]:
    """Largest differences of weights: of two equal runs, and of one and the same from its middle on."""
    steps, middle = setting.sizes.compared
    recipe = setting.recipe(
        setting.sizes.small_shape,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=steps,
        save_strategy="steps",
        save_steps=middle,
        resid_pdrop=0.1,
        attn_pdrop=0.1,
        **keys,
    )
    runs = [setting.folder / f"{name}-{run}" for run in ("once", "again", "resumed")]
    once, again, resumed = runs
    train_here(recipe, once)
    train_here(recipe, again)
    shutil.copytree(once / f"checkpoint-{middle}", resumed / f"checkpoint-{middle}")
    train_here(recipe, resumed)
    return _apart(once, again), _apart(once, resumed)


def _apart(one: Path, other: Path) -> float:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)
