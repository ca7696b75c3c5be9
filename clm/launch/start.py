"""The start of a run: its recipe as TrainingArguments that fit this machine and this launch."""

from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.utils.logging import disable_progress_bar

from clm.config.fields import MUON
from clm.config.recipe import Recipe
from clm.launch import gpus, hardware, launcher, preflight, processes
from clm.launch.writable import check_writable
from clm.progress import Say

# Processes that make batches beside a GPU. It would wait for the main one before a step's first kernel: 0.24 to 0.37 ms
# for each micro-batch of the step, measured on a CPU.
GPU_WORKERS = 2


def start(recipe: Recipe) -> tuple[TrainingArguments, Say]:
    """Fit the recipe to this machine and this launch, before any work. What is returned prints on the main process.

    Raises:
        UserError: the recipe can't run here, or the launch isn't what it looks like.
    """
    output_dir = Path(recipe.training["output_dir"])
    preflight.check_precision(bool(recipe.training["bf16"]))
    check_writable("output_dir", output_dir)
    check_writable("cache_dir", Path(recipe.data.cache_dir))
    decision = hardware.fit(recipe.training)
    if recipe.run.deterministic:
        decision.lines.append(hardware.use_deterministic_kernels())
    processes.join_on_cpu(decision.training)
    try:
        args = training_arguments(decision.training)
    except (ValueError, ImportError) as error:
        raise recipe.fault(" ".join(str(error).split())) from None
    decision.lines += gpus.use_one(args, str(recipe.path))
    args.per_device_train_batch_size = recipe.micro_batch(args.world_size)
    args.gradient_accumulation_steps = recipe.accumulation(args.world_size)
    if args.device.type == "cuda" and "dataloader_num_workers" not in recipe.training:
        args.dataloader_num_workers = GPU_WORKERS
    decision.lines += _changed_micro_batch(args, recipe)
    args.push_to_hub = False  # the stock Trainer would wait for the Hub, and end where that fails
    preflight.check_processes()
    processes.watch_others()
    preflight.check_engine(args)
    preflight.check_shared(output_dir)
    preflight.check_optimizer(args.optim)
    preflight.check_trackers(args.report_to)
    disable_progress_bar()  # transformers' own, one for each file of a checkpoint
    say: Say = partial(print, flush=True) if processes.main_process() else lambda _: None
    say(f"recipe: {recipe.path}\naccelerate file: {launcher.accelerate_file()}, processes: {args.world_size}")
    say("\n".join(decision.lines))
    return args, say


def _changed_micro_batch(args: TrainingArguments, recipe: Recipe) -> list[str]:
    given, taken = recipe.training.get("per_device_train_batch_size"), args.per_device_train_batch_size
    if given in (None, taken):
        return []
    parts = f"{recipe.run.global_batch_size} over {args.world_size} process{'es' * (args.world_size > 1)}"
    return [f"micro-batch: {taken} sequences instead of {given}, which don't add up to global_batch_size {parts}"]


def training_arguments(training: dict[str, Any]) -> TrainingArguments:
    """TrainingArguments of these keywords.

    Two values are set after their own check, which would refuse them: it knows no `muon`, and with
    load_best_model_at_end it wants saves at evaluations only. Here the best evaluation is saved whenever it comes.
    """
    checked, later = dict(training), {}
    if checked.get("optim") == MUON:
        later["optim"] = checked.pop("optim")
    if checked.get("load_best_model_at_end"):
        later["load_best_model_at_end"] = checked.pop("load_best_model_at_end")
        checked.setdefault("metric_for_best_model", "loss")  # as TrainingArguments itself would set it
    args = TrainingArguments(**checked)
    for key, value in later.items():
        setattr(args, key, value)
    return args
