"""What a GPU may train with beyond torch's own kernels: Liger's loss if asked, torch.compile where it was seen to pay.

Both are tried before they are taken: they need Triton, and that a C compiler and Python's headers. What is measured for
torch.compile comes from `training/tryout.py`; here is what follows from it.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainingArguments

from clm.config.recipe import Recipe
from clm.launch import hardware
from clm.model import liger

COMPILE_SECONDS = 60 / 12  # a layer: nanoGPT's train.py says "a ~minute" for 12
# Of the time without it that compiling may cost to find out. nanoGPT's README tells of 46 % less time, but there
# attention and GELU were in pieces, which are single operations here without a compiler, too.
SPENT = 0.2
NOISE = 0.03  # of a step's time, by which equal steps may differ


def choose(args: TrainingArguments, recipe: Recipe) -> list[str]:
    """Settle `use_liger_kernel` in `args`, as the recipe asks or as fits, and say what it asks of torch.compile.

    A line on each; none on torch.compile where `is_compile_open`.
    """
    device, requested = hardware.device_type(recipe.training), recipe.training
    args.use_liger_kernel, loss = _choose_loss(requested, device, args)
    if is_compile_open(args, recipe):
        return [loss]
    if args.torch_compile or requested.get("torch_compile") is False:
        line = f"{'on' if args.torch_compile else 'off'}, as the recipe asks"
    elif device == "cpu":
        line = "off, on a CPU the model was faster without (docs/training-speed.md)"
    elif device == "cuda":
        line = "off: with deterministic true a resumed run has to do as its first start did, and may measure otherwise"
    else:
        line = "off, not tried on such a device; --torch_compile true turns it on"
    return [loss, f"torch.compile: {line}"]


def is_compile_open(args: TrainingArguments, recipe: Recipe) -> bool:
    """Whether a measurement decides over torch.compile: on a GPU where nothing is asked."""
    asked = args.torch_compile or recipe.training.get("torch_compile") is not None
    return hardware.device_type(recipe.training) == "cuda" and not asked and not recipe.run.deterministic


def is_whole() -> bool:
    """Whether each process will hold the whole model, which can then be tried by itself."""
    return not any(
        os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in ("1", "true", "yes")
        for engine in ("FSDP", "DEEPSPEED")
    )


def too_short(seconds: float, layers: int) -> str | None:
    """Why a run that takes so many `seconds` without it isn't worth compiling for; None where it may be."""
    cost = layers * COMPILE_SECONDS
    if seconds * SPENT > cost:
        return None
    return (
        f"off: it takes about {cost:,.0f} s to compile, more than {SPENT:.0%} of the {seconds:,.0f} s that the steps "
        "left take without (measured)"
    )


def faster(plain: float, compiled: float) -> tuple[bool, str]:
    """Whether a micro-batch that took these seconds is to be compiled, and the line that says why."""
    pays = compiled < plain * (1 - NOISE)
    times = f"a micro-batch took {compiled * 1e3:,.1f} ms with it and {plain * 1e3:,.1f} ms without (measured)"
    return pays, f"{'on' if pays else 'off'}: {times}"


def _choose_loss(requested: dict[str, Any], device: str, args: TrainingArguments) -> tuple[bool, str]:
    request, own = requested.get("use_liger_kernel"), "loss: this project's own, without the logits"
    if not request:  # nobody has measured yet that Liger's is faster than this one's large chunks
        return False, own if request is None else f"{own} (as the recipe asks)"
    if device != "cuda":
        missing = "no GPU"
    elif args.fp16:
        missing = "it gives the head's gradient in fp16, which sums over many tokens overflow"
    else:
        missing = liger.missing() or fault_of(liger.try_out, args.device)
    if missing:
        return False, f"{own} (Liger Kernel's can't be used: {missing})"
    return True, "loss: Liger Kernel's, without the logits (as the recipe asks)"


def compile_a_little(device: torch.device) -> None:
    """Compile a small function and its gradient; whatever is in the way is raised."""
    square = torch.ones(64, 64, device=device, requires_grad=True)
    torch.compile(lambda values: torch.nn.functional.gelu(values).sum())(square).backward()


def fault_of(attempt: Callable[[torch.device], None], device: torch.device) -> str | None:
    """What comes of an attempt on this device, if not success: compilers, headers and cards are of many kinds."""
    try:
        attempt(device)
    except Exception as error:
        lines = str(error).split("\n")
        return f"tried, and {type(error).__name__}: {lines[0][:150]}"
    return None
