"""The processes of a run: which one prints and writes, and when they wait for each other."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from accelerate import PartialState
from torch import distributed
from transformers import TrainingArguments

from clm.errors import MachineError, Stopped, UserError, report

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
    """Let the processes of a run end together, and their group before them, where all of them come to the end.

    A process that ends while its group's threads still run may be aborted by them, and its launcher then ends the
    others at whatever they are doing. But one that fails alone must not end its group: under NCCL that waits for the
    others, which wait for it. It says what happened and is gone, without anything else on its way out.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, Stopped) and error.agreed:
            _end_group()
        elif distributed.is_initialized() and distributed.get_world_size() > 1:
            _leave(error)
        raise
    _end_group()


def _end_group() -> None:
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _leave(error: BaseException) -> NoReturn:
    if isinstance(error, (UserError, MachineError, Stopped)):
        exit_code = report(error)
    else:
        traceback.print_exception(error)
        exit_code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
