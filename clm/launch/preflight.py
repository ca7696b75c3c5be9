"""Launches that aren't what they look like, stopped before any work."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile, mkstemp

from accelerate import PartialState
from accelerate.commands.config.config_args import default_yaml_config_file, load_config_from_file
from accelerate.utils import gather_object
from torch import distributed
from transformers import TrainingArguments
from transformers.integrations import integration_utils

from clm.errors import UserError

_MODULE = "accelerate/commands/launch.py"  # of `python -m accelerate.commands.launch`


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
    asked = _processes_asked_for()
    if processes == 1 and asked > 1:
        raise UserError(
            f"{asked} processes were asked for, but the launcher started one: launch with `accelerate launch "
            f"--multi_gpu --num_processes {asked}` (on a CPU too), or with --num_processes 1"
        )


def check_engine(args: TrainingArguments) -> None:
    """Stop where the accelerate file asks for what would silently be something else here, or lose something.

    Raises:
        UserError: it is FSDP or DeepSpeed without GPUs, FSDP1, Megatron-LM, ZeRO-3, or DeepSpeed with checkpoints.
    """
    for engine in ("FSDP", "DeepSpeed"):
        if _asks_for(engine.upper()) and args.device.type != "cuda":
            raise UserError(
                f"the accelerate file asks for {engine}, which accelerate would run as DDP on a machine without GPUs, "
                "unsaid: launch with --config_file recipes/accelerate/ddp.yaml"
            )
    if _asks_for("FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError(
            "the accelerate file asks for FSDP's first version, whose weights can't be saved whole here: set "
            "fsdp_version: 2, as recipes/accelerate/fsdp2.yaml does"
        )
    if _asks_for("MEGATRON_LM") or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        engine = "Megatron-LM" if _asks_for("MEGATRON_LM") else "DeepSpeed's ZeRO-3"
        raise UserError(
            f"the accelerate file asks for {engine}, which cuts weights up in a way that this program doesn't know: "
            "launch with --config_file recipes/accelerate/fsdp2.yaml"
        )
    if _asks_for("DEEPSPEED") and args.save_strategy != "no":
        raise UserError(
            "DeepSpeed keeps its optimizer states to itself, so nothing can be saved to go on from: launch with "
            "--config_file recipes/accelerate/fsdp2.yaml, or add --save_strategy no --load_best_model_at_end false"
        )


def _asks_for(engine: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in ("1", "true", "yes")


def check_shared(folder: Path) -> None:
    """Stop where processes of several machines don't see one and the same `folder`: each has to call this.

    Raises:
        UserError: on every process, if one doesn't see what the main process has put there.
    """
    if PartialState().num_processes == int(os.environ.get("LOCAL_WORLD_SIZE", "1")):
        return
    mark = [None]
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, mark[0] = mkstemp(dir=folder, prefix=".shared.tmp-")
        os.close(descriptor)
    distributed.broadcast_object_list(mark)
    path = folder / Path(mark[0]).name
    seen = gather_object([(path.exists(), socket.gethostname())])
    if PartialState().is_main_process:
        path.unlink()
        with suppress(OSError):  # not empty
            folder.rmdir()
    blind = sorted({host for there, host in seen if not there})
    if blind:
        raise UserError(
            f"output_dir {folder} isn't the same folder on every machine: {', '.join(blind)} doesn't see what the "
            "first one writes; put it on a disk that they share"
        )


def _launcher() -> list[str]:
    """The command that started this process, from `accelerate` on; empty where that can't be seen, or is another."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return []
    names = ("accelerate", "accelerate-launch", "accelerate.commands.launch")
    started = [number for number, word in enumerate(words) if word.endswith(_MODULE) or Path(word).name in names]
    return words[started[0] :] if started else []


def _launcher_option(name: str) -> str:
    words = _launcher()
    for word, following in zip(words[1:], [*words[2:], ""], strict=False):
        if word.endswith(".py"):  # from here on they are the script's
            break
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return ""


def _processes_asked_for() -> int:
    """By the launcher's command line, else by the accelerate file in force; 0 where neither says."""
    asked = _launcher_option("--num_processes")
    if asked.isdigit():
        return int(asked)
    file = accelerate_file()
    return load_config_from_file(file).num_processes or 0 if file != "none" else 0


def accelerate_file() -> str:
    """The accelerate configuration in force, as the launcher's command line and defaults tell."""
    if given := _launcher_option("--config_file"):
        return given
    return default_yaml_config_file if _launcher() and Path(default_yaml_config_file).is_file() else "none"


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
    try:  # root may write anywhere, it seems, but not on a read-only disk, nor in /proc
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{key} {folder}: {existing} can't be written ({error.strerror}); set another {key}") from None
