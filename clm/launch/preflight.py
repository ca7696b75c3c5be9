"""Launches that would do something else than they seem to do, stopped before any work."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import distributed
from transformers import TrainingArguments
from transformers.integrations import integration_utils

from clm.config.fields import MUON
from clm.errors import UserError
from clm.launch.launcher import accelerate_file, asks_for, processes_asked_for


def check_precision(bf16: bool) -> None:
    """Stop where an accelerate file's mixed_precision would silently win over the recipe's. To be called first.

    Raises:
        UserError: the two differ.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", "bf16" if bf16 else "no"):
        file = accelerate_file()
        raise UserError(
            f"the accelerate file {'' if file == 'none' else f'{file} '}sets mixed_precision: {launched}, the recipe "
            f"bf16: {str(bf16).lower()}: precision is the recipe's, take mixed_precision out of the file, or launch "
            "with --mixed_precision no"
        )


def check_processes() -> None:
    """Stop a launch whose processes don't train together.

    A launch can start N processes that don't see each other, which would be N runs in one folder. It can also start
    one process where N were asked for (`--cpu --num_processes N`).

    Raises:
        UserError: the launch did one of these.
    """
    processes = PartialState().num_processes
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != processes:
        raise UserError(
            f"the launcher started {launched} processes, but they don't see each other (each counts {processes}): on "
            "a machine without GPUs set ACCELERATE_USE_CPU=true, or launch one process"
        )
    asked = processes_asked_for()
    if processes == 1 and asked > 1:
        raise UserError(
            f"{asked} processes were asked for, but the launcher started one: launch with `accelerate launch "
            f"--multi_gpu --num_processes {asked}` (on a CPU too), or with --num_processes 1"
        )


def check_engine(args: TrainingArguments) -> None:
    """Stop where the accelerate file asks for an engine that would silently be another one here, or lose something.

    Raises:
        UserError: it is FSDP or DeepSpeed without GPUs, FSDP1, Megatron-LM, ZeRO-3, or DeepSpeed with checkpoints.
    """
    for engine in ("FSDP", "DeepSpeed"):
        if asks_for(engine.upper()) and args.device.type != "cuda":
            raise UserError(
                f"the accelerate file asks for {engine}, which accelerate would run as DDP on a machine without GPUs "
                "and not say so: launch with --config_file recipes/accelerate/ddp.yaml"
            )
    if asks_for("FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError(
            "the accelerate file asks for FSDP's first version, whose full weights can't be saved here: set "
            "fsdp_version: 2, as recipes/accelerate/fsdp2.yaml does"
        )
    if asks_for("MEGATRON_LM") or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        engine = "Megatron-LM" if asks_for("MEGATRON_LM") else "DeepSpeed's ZeRO-3"
        raise UserError(
            f"the accelerate file asks for {engine}, which shards weights in a way that this program doesn't know: "
            "launch with --config_file recipes/accelerate/fsdp2.yaml"
        )
    if asks_for("DEEPSPEED") and args.save_strategy != "no":
        raise UserError(
            "DeepSpeed keeps its optimizer states to itself, so no checkpoint could be resumed: launch with "
            "--config_file recipes/accelerate/fsdp2.yaml, or add --save_strategy no --load_best_model_at_end false"
        )


def check_optimizer(optim: str) -> None:
    """Stop a launch under which Muon would orthogonalise pieces of a matrix, which gives another step.

    Under FSDP2 it is right, because sharded matrices multiply as the full ones do.

    Raises:
        UserError: it is DeepSpeed.
    """
    if optim == MUON and asks_for("DEEPSPEED"):
        raise UserError(
            "optim muon needs full matrices, but the accelerate file asks for DeepSpeed, which shards them: set optim "
            "to adamw_torch_fused, or launch without DeepSpeed"
        )


def check_shared(folder: Path) -> None:
    """Stop where the machines of a run don't share `folder`. Every process has to call this.

    Raises:
        UserError: on every process, if one doesn't see the file that the main process has put there.
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
