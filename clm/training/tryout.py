"""What is tried on a GPU before training: the largest micro-batch that fits, and whether torch.compile pays.

The model itself is tried, forward and backward, on made-up tokens, which leaves it as it was: no gradients, no step,
the random generators where they stood. Every process tries for itself, and all take what serves all of them. Nothing
here was run on a GPU yet; the decisions are functions of what was measured.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import gather_object
from transformers import TrainingArguments

from clm.config.recipe import Recipe
from clm.files import read_json_object
from clm.launch import acceleration, processes
from clm.launch.environment import ENVIRONMENT_FILE, device_name
from clm.training.checkpoint import rng
from clm.training.checkpoint.folders import step_of

USABLE = 0.8  # of the memory that is free; the rest is for what lies between allocations, evaluation and other programs
STATE_BYTES = 8  # a parameter, for AdamW's two moments, which aren't there yet; other optimizers need less
BUCKET_BYTES = 4  # a parameter, for the copy of the gradients that DDP sends
TIMES = 3  # that a micro-batch is timed


def settle(
    model: torch.nn.Module, args: TrainingArguments, recipe: Recipe, resume_from: Path | None, total_steps: int
) -> list[str]:
    """Settle in `args` what the recipe leaves open on a GPU; a line on each choice.

    Args:
        resume_from: the checkpoint to resume from, whose micro-batch is kept on a device like the one before.
        total_steps: of the run.
    """
    lines = []
    if recipe.is_micro_batch_open:
        size, line = _micro_batch(model, args, recipe, resume_from)
        args.per_device_train_batch_size = size
        args.gradient_accumulation_steps = recipe.accumulation(args.world_size, size)
        lines.append(line)
    if acceleration.is_compile_open(args, recipe):
        steps = total_steps - (step_of(resume_from.resolve()) if resume_from else 0)
        args.torch_compile, line = _compile(model, args, steps)
        if args.torch_compile:
            args.torch_compile_backend = "inductor"
        lines.append(f"torch.compile: {line}")
    return lines


# The micro-batch


def _micro_batch(
    model: torch.nn.Module, args: TrainingArguments, recipe: Recipe, resume_from: Path | None
) -> tuple[int, str]:
    kept = processes.on_main(lambda: _of_checkpoint(resume_from, args.device)) if resume_from else None
    if kept and recipe.run.global_batch_size % (kept * args.world_size) == 0:
        size, why = kept, "as in the checkpoint, so that sums are rounded as before"
    elif args.device.type != "cuda":
        size, why = args.per_device_train_batch_size, "about 4,096 tokens, which a CPU is fast with"
    elif not acceleration.is_whole():
        size, why = args.per_device_train_batch_size, "not tried on a model that is spread over processes"
    else:
        budget = _budget(model, args)
        sizes = powers_of_two(recipe.run.global_batch_size // args.world_size)
        with left_as_it_was(model, args):
            size = largest_fitting(sizes, lambda rows: memory_of(model, args, rows), budget)
        size = min(gather_object([size]))
        why = f"the largest power of two that was seen to fit into {budget / 1e9:.1f} GB"
    return size, f"micro-batch: {size} sequences ({why}; --per_device_train_batch_size N sets another)"


def _of_checkpoint(folder: Path, device: torch.device) -> int | None:
    """None where the run is known to have been on another device: the sums are rounded otherwise anyway."""
    before = read_json_object(folder.resolve().parent / ENVIRONMENT_FILE).get("device")
    if before not in (None, device_name(device)):
        return None
    return json.loads((folder / "trainer_state.json").read_text("utf-8")).get("train_batch_size")


def powers_of_two(sequences: int) -> list[int]:
    """Those that `sequences` is a multiple of."""
    return [1 << power for power in range((sequences & -sequences).bit_length())]


def largest_fitting(sizes: Sequence[int], memory: Callable[[int], int | None], budget: float) -> int:
    """The largest of `sizes`, in rising order, that needs no more than `budget` bytes; the first where none does.

    A size isn't tried that the straight line through the last two puts beyond it.

    Args:
        memory: bytes that a size needs, or None where the device has too few.
    """
    best, last = sizes[0], []
    for size in sizes:
        if len(last) == 2:
            (smaller, of_smaller), (larger, of_larger) = last
            if of_larger + (of_larger - of_smaller) * (size - larger) / (larger - smaller) > budget:
                break
        needed = memory(size)
        if needed is None or needed > budget:
            break
        best, last = size, [*last[-1:], (size, needed)]
    return best


def _budget(model: torch.nn.Module, args: TrainingArguments) -> float:
    """Bytes that weights, gradients and a micro-batch may take, beside what comes only with training."""
    free, _ = torch.cuda.mem_get_info(args.device)
    beside = STATE_BYTES + BUCKET_BYTES * (args.world_size > 1)
    return USABLE * (free + torch.cuda.memory_reserved(args.device)) - beside * model.num_parameters()


def memory_of(model: torch.nn.Module, args: TrainingArguments, rows: int) -> int | None:
    """Bytes that a micro-batch of `rows` takes at its peak, weights and gradients too; None where it has fewer."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(args.device)
    try:
        forward_backward(model, args, rows)
    except torch.OutOfMemoryError:
        return None
    torch.cuda.synchronize(args.device)
    return torch.cuda.max_memory_allocated(args.device)


# torch.compile


def _compile(model: torch.nn.Module, args: TrainingArguments, steps: int) -> tuple[bool, str]:
    if not acceleration.is_whole():
        return False, "off, not tried on a model that is spread over processes; --torch_compile true turns it on"
    rows, micro_batches = args.per_device_train_batch_size, args.gradient_accumulation_steps * steps
    with left_as_it_was(model, args):
        eager = max(gather_object([seconds_of(lambda: forward_backward(model, args, rows), args.device)]))
        if line := acceleration.too_short(eager * micro_batches, model.config.n_layer):
            return False, line
        fault = acceleration.fault_of(acceleration.compile_a_little, args.device)
        compiled = float("inf")
        if not fault:
            faster = torch.compile(model)
            measured: list[float] = []
            fault = acceleration.fault_of(
                lambda device: measured.append(seconds_of(lambda: forward_backward(faster, args, rows), device)),
                args.device,
            )
            compiled = measured[0] if measured else compiled
    fault = next(filter(None, gather_object([fault])), None)
    return (False, f"off: {fault}") if fault else acceleration.faster(eager, max(gather_object([compiled])))


# Both


def forward_backward(model: torch.nn.Module, args: TrainingArguments, rows: int) -> None:
    """Take a micro-batch of so many blocks of made-up tokens through `model`, as training would."""
    block_size, vocab_size = model.config.n_positions, model.config.vocab_size
    tokens = (torch.arange(rows * block_size, device=args.device) % vocab_size).view(rows, block_size)
    dtype = torch.float16 if args.fp16 else torch.bfloat16
    with torch.autocast(args.device.type, dtype, enabled=bool(args.bf16 or args.fp16)):
        loss = model(tokens, labels=tokens).loss
    loss.backward()


def seconds_of(attempt: Callable[[], None], device: torch.device) -> float:
    """How long it takes, the mean of some times after a first one."""
    attempt()
    _wait(device)
    started = time.perf_counter()
    for _ in range(TIMES):
        attempt()
    _wait(device)
    return (time.perf_counter() - started) / TIMES


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def left_as_it_was(model: torch.nn.Module, args: TrainingArguments) -> Iterator[None]:
    """Put the fresh `model` on the device to be tried; afterwards it has no gradients, and no memory is held."""
    random, was_training = rng.get(), model.training
    model.to(args.device).train()
    recomputes = bool(args.activation_checkpointing)
    if recomputes:
        model.activation_checkpointing_enable()
    try:
        yield
    finally:
        if recomputes:
            model.activation_checkpointing_disable()
        model.train(was_training)
        model.zero_grad()
        rng.put(random)
        if args.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(args.device)
