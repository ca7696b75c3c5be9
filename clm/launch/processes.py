"""A run's outer life: its processes, and how far it got."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from torch import distributed
from transformers import TrainingArguments

from clm.errors import MachineError, Stopped, UserError
from clm.files import read_json, write_json

STATUS_FILE = "run_status.json"
_T = TypeVar("_T")


def main_process() -> bool:
    """Whether this is the one process that prints and writes."""
    return PartialState().is_main_process


def on_main(work: Callable[[], _T]) -> _T:
    """What `work` returns or raises on the main process, the only one that does it, on every process."""
    outcome: list = [None, None]
    if main_process():
        try:
            outcome = [work(), None]
        except (UserError, MachineError) as error:
            outcome = [None, error]
    if PartialState().num_processes > 1:
        distributed.broadcast_object_list(outcome)
    result, error = outcome
    if error:
        raise error
    return result


def write_status(
    output_dir: Path, state: str, total_steps: int, exit_code: int | None = None, reason: str | None = None
) -> None:
    """Say in run_status.json how the run of `total_steps` stands: running, stopped, failed or finished."""
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


def join_on_cpu(training: dict[str, Any]) -> None:
    """Join the processes of a CPU, to wait for ddp_timeout seconds: the stock TrainingArguments forget that there."""
    if training.get("use_cpu") and "LOCAL_RANK" in os.environ:
        seconds = training.get("ddp_timeout") or TrainingArguments.ddp_timeout
        PartialState(cpu=True, backend=training.get("ddp_backend"), timeout=timedelta(seconds=seconds))


@contextmanager
def first_of_each_machine() -> Iterator[None]:
    """Let the first process of every machine do the block before its others, which wait for a day if need be.

    The stock way waits as for any message, so it would give a text up that takes longer to prepare than ddp_timeout.
    """
    state = PartialState()
    if state.num_processes == 1:
        yield
        return
    group = distributed.new_group(timeout=timedelta(days=1), backend="gloo")
    if not state.is_local_main_process:
        distributed.barrier(group)
    yield
    if state.is_local_main_process:
        distributed.barrier(group)


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
def status_of(output_dir: Path, total_steps: int) -> Iterator[None]:
    """Keep run_status.json true from the first step to the last: running, then finished, stopped or failed."""
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
            state = "stopped" if isinstance(error, Stopped) else "failed"
            write_status(output_dir, state, total_steps, exit_code, reason)
        raise
    write_status(output_dir, "finished", total_steps, exit_code=0)


def finished_steps(output_dir: Path) -> int | None:
    """The planned steps of the run that finished in `output_dir`; None if none did."""
    status = read_json(output_dir / STATUS_FILE) or {}
    return status.get("total_steps") if status.get("state") == "finished" else None
