"""How often the host waits for the GPU while it trains, as far as torch notices."""

import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu.commands import train_here
from benchmarks.gpu.rows import Row, number
from benchmarks.gpu.setting import ROOT, Setting
from clm.training.trainer import ClmTrainer

WARMUP, STEPS, ACCUMULATION = 3, 6, 4
WARNING = "called a synchronizing CUDA operation"  # c10/cuda/CUDAFunctions.cpp


class Syncs:
    """Counts the warnings of `set_sync_debug_mode` during STEPS optimizer steps, after WARMUP of them.

    Attributes:
        in_micro_batches: those within `training_step`: forward, backward, the batch's way to the device.
        elsewhere: those of the rest of a step.
        places: what called for them; those of the backward pass have no line of Python.
    """

    def __init__(self) -> None:
        self.in_micro_batches = self.elsewhere = self.micro_batches = self.steps = 0
        self.places: Counter[str] = Counter()
        self._within = False

    @property
    def _counts(self) -> bool:
        return WARMUP <= self.steps < WARMUP + STEPS

    def seen(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Take the place of warnings.showwarning."""
        if WARNING not in str(message) or not self._counts:
            return
        if self._within:
            self.in_micro_batches += 1
        else:
            self.elsewhere += 1
        self.places[_place()] += 1

    def around_micro_batch(self, training_step: Callable) -> Callable:
        """`training_step`, what happens within it told apart."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.micro_batches += self._counts
            self._within = True
            try:
                return training_step(*args, **kwargs)
            finally:
                self._within = False

        return counted

    def after_step(self, finish: Callable) -> Callable:
        """`_maybe_log_save_evaluate`, which ends a step; torch warns from the first counted step to the last."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            result = finish(*args, **kwargs)
            self.steps += 1
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("warn" if self._counts else "default")
            return result

        return counted

    def watch(self, train: Callable[[], Any]) -> None:
        """Count while `train` runs."""
        with ExitStack() as patched:
            patched.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
            warnings.showwarning = self.seen
            for name, around in (
                ("training_step", self.around_micro_batch),
                ("_maybe_log_save_evaluate", self.after_step),
            ):
                # As a function, so that it becomes a method of the Trainer.
                patched.enter_context(patch.object(ClmTrainer, name, around(getattr(ClmTrainer, name))))
            train()


def check(setting: Setting) -> Iterator[Row]:
    """Prove that no micro-batch waits for the GPU, and a step at most once; between two logs, without a save.

    torch warns of copies to or from memory that isn't pinned and of reads of a number, not of `synchronize` itself.
    """
    steps = WARMUP + STEPS + 1
    recipe = setting.recipe(
        setting.sizes.shape,
        per_device_train_batch_size=setting.sizes.micro_batches[0],
        gradient_accumulation_steps=ACCUMULATION,
        max_steps=steps,
        logging_steps=1000,
    )
    syncs = Syncs()
    syncs.watch(lambda: train_here(recipe, setting.folder / "syncs"))
    yield number("micro-batches that were watched", syncs.micro_batches, at_least=STEPS * ACCUMULATION)
    yield number("waits in a micro-batch", syncs.in_micro_batches / max(1, syncs.micro_batches), at_most=0)
    yield number("waits in a step, besides", syncs.elsewhere / STEPS, at_most=1)
    for place, count in syncs.places.most_common(10):
        yield Row(f"called for in {STEPS} steps by", f"{count} x {place}")


def _place() -> str:
    """The innermost line of this project's on the stack, and the innermost of all."""
    stack = [frame for frame in traceback.extract_stack(sys._getframe(2)) if frame.filename != __file__]
    if not stack:
        return "the backward pass"
    ours = [frame for frame in stack if frame.filename.startswith(str(ROOT / "clm") + os.sep)]
    lines = dict.fromkeys(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (*ours[-1:], stack[-1]))
    return " > ".join(lines)
