"""A run's outer life: how it was launched and how far it got."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.commands.config.config_args import default_yaml_config_file
from torch import distributed
from transformers.integrations import integration_utils

from clm.errors import MachineError, UserError
from clm.files import read_json, write_json

STATUS_FILE = "run_status.json"


def check_precision(bf16: bool) -> None:
    """Stop where an accelerate file's mixed_precision would win over the recipe's, unsaid. To be called first.

    Raises:
        UserError: the two differ.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", "bf16" if bf16 else "no"):
        raise UserError(
            f"the accelerate file sets mixed_precision: {launched}, the recipe bf16: {str(bf16).lower()}: precision is "
            "the recipe's, take mixed_precision out of the accelerate file"
        )


def check_processes() -> None:
    """Stop a launch that isn't what it looks like.

    A launch can give N processes that don't see each other, so N runs in one folder, or (`--cpu --num_processes N`)
    one process where N were asked for.

    Raises:
        UserError: it is so.
    """
    processes = PartialState().num_processes
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != processes:
        raise UserError(
            f"the launcher started {launched} processes, but they don't see each other (each counts {processes}): on "
            "a machine without GPUs set ACCELERATE_USE_CPU=true, or launch one process"
        )
    asked = _launcher_option("--num_processes")
    if processes == 1 and asked.isdigit() and int(asked) > 1:
        raise UserError(
            f"{asked} processes were asked for, but the launcher started one: launch with `accelerate launch "
            f"--multi_gpu --num_processes {asked}` (on a CPU too), or with --num_processes 1"
        )


def _launcher() -> list[str]:
    """The words of the command that started this process; empty where that can't be seen, or isn't accelerate."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return []
    return words if any(Path(word).name in ("accelerate", "accelerate-launch") for word in words) else []


def _launcher_option(name: str) -> str:
    words = _launcher()
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word.endswith(".py"):  # from here on they are the script's
            break
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return ""


def accelerate_file() -> str:
    """The accelerate configuration in force, as the launcher's command line and defaults tell."""
    if given := _launcher_option("--config_file"):
        return given
    return default_yaml_config_file if _launcher() and Path(default_yaml_config_file).is_file() else "none"


def main_process() -> bool:
    """Whether this is the one process that prints and writes."""
    return PartialState().is_main_process


def check_trackers(names: list[str]) -> None:
    """Stop where a tracker of `report_to` can't report.

    Raises:
        UserError: its package isn't installed.
    """
    if not names:
        return
    there = {
        *integration_utils.get_available_reporting_integrations(),
        *["flyte"] * integration_utils.is_flytekit_available(),  # two that are left out of its list
        *["azure_ml"] * integration_utils.is_azureml_available(),
    }
    for name in names:
        if name not in there:
            raise UserError(f"report_to {name}: the package for it isn't installed; install it or leave {name} out")


def check_writable(key: str, folder: Path) -> None:
    """Stop before any work if `folder`, which is the recipe's `key`, can't be written.

    Raises:
        UserError: it, or the folder it would be made in, isn't a writable folder.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{key} {folder}: {existing} is a file; set another {key}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{key} {folder}: no permission to write in {existing}; set another {key}")


def write_status(
    output_dir: Path, state: str, total_steps: int, exit_code: int | None = None, reason: str | None = None
) -> None:
    """Say in run_status.json how the run of `total_steps` stands: running, failed or finished."""
    write_json(
        output_dir / STATUS_FILE,
        {
            "state": state,
            "exit_code": exit_code,
            "reason": reason,
            "total_steps": total_steps,
            "host": socket.gethostname(),
            "process": os.getpid(),
        },
    )


@contextmanager
def processes() -> Iterator[None]:
    """Let the processes of a run end together, and their group before them.

    A process that ends while its group's threads still run may be aborted by them, and its launcher then ends the
    others at whatever they are doing.
    """
    try:
        yield
        if distributed.is_initialized():
            distributed.barrier()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def machine_faults() -> Iterator[None]:
    """Turn what a machine that is too small raises into a MachineError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise MachineError(
            "out of memory: lower per_device_train_batch_size (with global_batch_size set, the run stays the same), or "
            "set activation_checkpointing"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError(
            f"the disk is full ({error.filename or 'no file named'}): free some space, then run the "
            "same command again; the last checkpoint is whole"
        ) from None


@contextmanager
def status_of(output_dir: Path, total_steps: int) -> Iterator[None]:
    """Keep run_status.json true from the first step to the last: running, then finished or failed."""
    if not main_process():
        yield
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    write_status(output_dir, "running", total_steps)
    try:
        yield
    except BaseException as error:
        exit_code = getattr(error, "exit_code", 1)
        reason = " ".join(str(error).split()) or type(error).__name__
        with suppress(OSError):  # on a full disk the reason itself has no room
            write_status(output_dir, "failed", total_steps, exit_code, reason)
        raise
    write_status(output_dir, "finished", total_steps, exit_code=0)


def finished_steps(output_dir: Path) -> int | None:
    """The planned steps of the run that finished in `output_dir`; None if none did."""
    status = read_json(output_dir / STATUS_FILE) or {}
    return status.get("total_steps") if status.get("state") == "finished" else None
