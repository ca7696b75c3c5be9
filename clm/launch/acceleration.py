"""What a GPU may train with beyond torch's own kernels: Liger's loss if asked, torch.compile in a run long enough.

Both are tried before they are taken: they need Triton, and that a C compiler and Python's headers. Neither was measured
on a GPU here: the figures that decide over torch.compile are assumptions, and the line that is printed says so.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainingArguments

from clm.config.recipe import Recipe
from clm.launch import hardware
from clm.model import liger
from clm.model.flops import UTILISATION, flops_per_token, peak_flops

COMPILE_SECONDS = 60 / 12  # a layer: nanoGPT's train.py says "a ~minute" for 12
# Of a step's time. nanoGPT's README tells of 250 ms that became 135, 46 % less, but there attention and GELU were in
# pieces, which are single operations here without a compiler, too.
SAVED = 0.2
MARGIN = 5  # times the seconds of compiling have to be saved, for the estimates may be far off


def choose(args: TrainingArguments, recipe: Recipe, parameters: int, tokens: int) -> list[str]:
    """Settle `use_liger_kernel` and `torch_compile` in `args`, as the recipe asks or as fits; a line on each.

    Args:
        parameters: of the model, the tied head counted once.
        tokens: that are still to be trained on, over all processes.
    """
    device, wishes, half = hardware.device_type(recipe.training), recipe.training, bool(args.bf16 or args.fp16)
    args.use_liger_kernel, loss = _choose_loss(wishes, device, args)
    if not args.torch_compile and wishes.get("torch_compile") is None and device == "cuda":
        options, block_size = recipe.model, recipe.data.block_size
        a_token = flops_per_token(parameters - block_size * options.n_embd, options.n_layer, options.n_embd, block_size)
        peak = peak_flops(device, hardware.device_name(device), half)
        pays, line = _estimate(tokens * a_token / args.world_size, peak, options.n_layer * COMPILE_SECONDS)
        if pays and (fault := fault_of(compile_a_little, args.device)):
            line = f"off: {fault}"
        elif pays:
            args.torch_compile, args.torch_compile_backend = True, "inductor"
    elif args.torch_compile or wishes.get("torch_compile") is False:
        line = f"{'on' if args.torch_compile else 'off'}, as the recipe asks"
    elif device == "cpu":
        line = "off, on a CPU the model was faster without (docs/training-speed.md)"
    else:
        line = "off, not tried on such a device; --torch_compile true turns it on"
    return [loss, f"torch.compile: {line}"]


def _choose_loss(wishes: dict[str, Any], device: str, args: TrainingArguments) -> tuple[bool, str]:
    wish, own = wishes.get("use_liger_kernel"), "loss: this project's own, without the logits"
    if not wish:  # nobody has measured yet that Liger's is faster than this one's large chunks
        return False, own if wish is None else f"{own} (as the recipe asks)"
    if device != "cuda":
        missing = "no GPU"
    elif args.fp16:
        missing = "it gives the head's gradient in fp16, which sums over many tokens overflow"
    else:
        missing = liger.missing() or fault_of(liger.try_out, args.device)
    if missing:
        return False, f"{own} (Liger Kernel's can't be used: {missing})"
    return True, "loss: Liger Kernel's, without the logits (as the recipe asks)"


def _estimate(flops: float, peak: float, compiling: float) -> tuple[bool, str]:
    """Whether torch.compile pays in `flops` on one device that does `peak` FLOP/s, and why."""
    seconds = flops / (peak * UTILISATION["gpu"])
    saved, pays = seconds * SAVED, seconds * SAVED > MARGIN * compiling
    return pays, (
        f"{'on' if pays else 'off'}: it takes about {compiling:,.0f} s, and may save {saved:,.0f} of the "
        f"{seconds:,.0f} s that the run would take without (estimates: {UTILISATION['gpu']:.0%} of {peak / 1e12:,.0f} "
        f"TFLOP/s, {SAVED:.0%} saved, {'and so' if pays else 'not'} {MARGIN} times the cost)"
    )


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
