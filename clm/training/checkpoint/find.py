"""Checkpoint folders: which of them are whole, and which run they belong to."""

import re
import shutil
from enum import Enum
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from clm.config.recipe import DataOptions, ModelOptions
from clm.errors import UserError
from clm.files import STAGED_FILES, read_json
from clm.progress import Say
from clm.training.checkpoint import manifest

IDENTITY_FILE = "run_identity.json"
EXPORT_STAGING = ".export.tmp"
STAGED_FOLDERS = ".*.tmp"
# TrainingArguments that shape the weights. What may differ from start to start isn't here.
_SAME_TRAINING = (
    "seed",
    "data_seed",
    "optim",
    "optim_args",
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
)
_NAME = re.compile(r"checkpoint-(\d+)")


def sequences_per_step(args: TrainingArguments) -> int:
    """Samples in an optimizer step, over all processes."""
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size


def run_identity(
    args: TrainingArguments, model: ModelOptions, options: DataOptions, data: dict[str, Any]
) -> dict[str, Any]:
    """All that has to be the same for a checkpoint to go on: model, data, seed, optimizer and effective batch.

    Args:
        data: names for text and tokenizer, equal for equal ones.
    """
    training = {key: getattr(args, key) for key in _SAME_TRAINING}
    shifted = options.sampling == "blocks" and options.shift_blocks
    return {
        **vars(model),
        "block_size": options.block_size,
        "sampling": "blocks with shift_blocks" if shifted else options.sampling,
        **{key: value.value if isinstance(value, Enum) else value for key, value in training.items()},
        "sequences_per_step": sequences_per_step(args),
        **data,
    }


def step_of(folder: Path) -> int:
    """The optimizer step in a checkpoint folder's name."""
    return int(_NAME.fullmatch(folder.name)[1])


def is_name(name: str) -> bool:
    """Whether a folder of this name would be a checkpoint's."""
    return _NAME.fullmatch(name) is not None


def folders_in(output_dir: Path) -> list[Path]:
    """The checkpoint folders there, whole or not."""
    return [folder for folder in output_dir.glob("checkpoint-*") if is_name(folder.name) and folder.is_dir()]


def fault(folder: Path, needs_best: bool) -> str | None:
    """Why a run can't go on exactly from `folder`, in a few words; None where it can.

    Args:
        needs_best: the run ends with the best of its models, so the checkpoint of that has to be whole, too.
    """
    found = manifest.fault(folder)
    if found or not needs_best:
        return found
    best = best_of(folder)
    damaged = manifest.fault(best) if best and best != folder else None
    return f"{best.name}, the best until then, can't be used: {damaged}" if damaged else None


def best_of(folder: Path) -> Path | None:
    """The checkpoint of the best model, as the one in `folder` remembers it: its neighbour, wherever that now is."""
    step = (read_json(folder / "trainer_state.json") or {}).get("best_global_step")
    return folder.parent / f"checkpoint-{step}" if isinstance(step, int) and step else None


def newest(output_dir: Path, needs_best: bool, say: Say) -> Path | None:
    """The newest checkpoint in `output_dir` to go on from, naming each newer one that can't be used and why.

    Raises:
        UserError: there are some, and none can be used.
    """
    for staging in output_dir.glob(".checkpoint-*.tmp"):  # was it only the renaming that a kill prevented?
        final = output_dir / staging.stem.removeprefix(".")
        if not final.exists() and manifest.fault(staging) is None:
            staging.rename(final)
    folders = folders_in(output_dir)
    for folder in sorted(folders, key=step_of, reverse=True):
        found = fault(folder, needs_best)
        if not found:
            return folder
        say(f"passing over {folder}: {found}")
    if folders:
        raise UserError(
            f"{output_dir}: none of its {len(folders)} checkpoints is whole; delete them to start over, or set another "
            "output_dir"
        )
    return None


def find(output_dir: Path, wish: str | None, needs_best: bool, say: Say) -> Path | None:
    """The checkpoint to go on from, or None for a fresh start.

    Args:
        wish: `resume_from_checkpoint`: None, "true" or "auto" for the newest in output_dir ("hub": what was pushed is
            there by now), "false" for none at all, else a checkpoint's folder.
        needs_best: as in `fault`.

    Raises:
        UserError: the wish can't be met.
    """
    if wish in (None, "true", "auto", "hub"):
        return newest(output_dir, needs_best, say)
    if wish == "false":
        if any(output_dir.glob("checkpoint-*")) or (output_dir / "model.safetensors").exists():
            raise UserError(
                f"{output_dir} holds a run, and resume_from_checkpoint is false: set another output_dir or delete it"
            )
        return None
    folder = Path(wish)
    if not folder.is_dir():
        raise UserError(f"resume_from_checkpoint: {wish} isn't a folder")
    if not is_name(folder.resolve().name):
        raise UserError(f"resume_from_checkpoint: {wish} isn't a checkpoint folder (checkpoint-N)")
    if found := fault(folder, needs_best):
        raise UserError(f"resume_from_checkpoint: {wish} isn't whole: {found}")
    return folder


def remove_leftovers(output_dir: Path) -> None:
    """Delete what was left half-done by killed saves, rotations, exports and pushes; in a folder nobody else writes."""
    for folder in (*output_dir.glob(".checkpoint-*"), *output_dir.glob(STAGED_FOLDERS)):
        shutil.rmtree(folder, ignore_errors=True)
    for file in output_dir.glob(STAGED_FILES):
        file.unlink()


def refuse_other_run(folder: Path, identity: dict[str, Any]) -> None:
    """Stop where the checkpoint in `folder` was made by another run than `identity` describes.

    Raises:
        UserError: it names each key that differs, with both values.
    """
    theirs = read_json(folder / IDENTITY_FILE) or {}
    differing = [key for key in identity if theirs.get(key) != identity[key]]
    if differing:
        shown = "; ".join(f"{key} was {theirs.get(key)!r}, is {identity[key]!r}" for key in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UserError(
            f"{folder} belongs to a different run: {shown}{more}; set another output_dir, or undo the change to go on"
        )


def announce(folder: Path, total_steps: int, processes: int, say: Say) -> None:
    """Say where the run goes on, and what another number of steps or processes changes.

    Raises:
        UserError: the checkpoint is already past `total_steps`.
    """
    step, before = step_of(folder.resolve()), (read_json(folder / IDENTITY_FILE) or {}).get("total_steps")
    if step > total_steps:
        raise UserError(
            f"{folder} is at step {step:,}, past the {total_steps:,} steps asked for: set a higher max_steps"
        )
    say(f"resuming from {folder}")
    if before is not None and before != total_steps:
        say(
            f"the run was planned for {before:,} steps, now for {total_steps:,}: from here on the learning rate "
            f"follows the schedule of a {total_steps:,}-step run, so it jumps at step {step:,}"
        )
    wrote = manifest.manifest_of(folder)["world_size"]
    if wrote != processes:
        say(
            f"number of processes: {wrote} wrote the checkpoint, now there are {processes}: the same data in the same "
            "order, and the same losses up to rounding (1e-4 in fp32); dropout draws other numbers"
        )
