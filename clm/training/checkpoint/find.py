"""The checkpoint that a run resumes from: the newest intact one, or the one that is named."""

from pathlib import Path

from clm.errors import UserError
from clm.files import read_json_object
from clm.progress import Say
from clm.training.checkpoint import manifest
from clm.training.checkpoint.folders import best_of, folders_in, is_name, step_of
from clm.training.checkpoint.identity import IDENTITY_FILE


def fault(folder: Path, needs_best: bool) -> str | None:
    """Why a run can't go on exactly from `folder`, in a few words; None where it can.

    Args:
        needs_best: the run ends with the best of its models, so the checkpoint of that has to be intact, too.
    """
    found = manifest.fault(folder)
    if found or not needs_best:
        return found
    best = best_of(folder)
    damaged = manifest.fault(best) if best and best != folder else None
    return f"{best.name}, the best until then, can't be used: {damaged}" if damaged else None


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
            f"{output_dir}: none of its {len(folders)} checkpoints is intact; delete them to start over, or set "
            "another output_dir"
        )
    return None


def find(output_dir: Path, request: str | None, needs_best: bool, say: Say) -> Path | None:
    """The checkpoint to go on from, or None for a fresh start.

    Args:
        request: `resume_from_checkpoint`: None, "true" or "auto" for the newest in output_dir ("hub": what was pushed
            is there by now), "false" for none at all, else a checkpoint's folder.
        needs_best: as in `fault`.

    Raises:
        UserError: the request can't be met.
    """
    if request in (None, "true", "auto", "hub"):
        return newest(output_dir, needs_best, say)
    if request == "false":
        if any(output_dir.glob("checkpoint-*")) or (output_dir / "model.safetensors").exists():
            raise UserError(
                f"{output_dir} holds a run, and resume_from_checkpoint is false: set another output_dir or delete it"
            )
        return None
    folder = Path(request)
    if not folder.is_dir():
        raise UserError(f"resume_from_checkpoint: {request} isn't a folder")
    if not is_name(folder.resolve().name):
        raise UserError(f"resume_from_checkpoint: {request} isn't a checkpoint folder (checkpoint-N)")
    if found := fault(folder, needs_best):
        raise UserError(f"resume_from_checkpoint: {request} isn't intact: {found}")
    return folder


def announce(folder: Path, total_steps: int, processes: int, say: Say) -> None:
    """Say where the run goes on, and what another number of steps or processes changes.

    Raises:
        UserError: the checkpoint is already past `total_steps`.
    """
    step, before = step_of(folder.resolve()), read_json_object(folder / IDENTITY_FILE).get("total_steps")
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
