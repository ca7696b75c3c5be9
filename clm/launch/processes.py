"""The processes of a run: which one prints and writes, when they wait for each other, and that they end together."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from accelerate import PartialState
from torch import distributed
from transformers import TrainingArguments

from clm.errors import MachineError, PeerFault, Stopped, UserError, report
from clm.launch import signals
from clm.launch.faults import machine_faults

GRACE = 30.0  # seconds that a process has to end by itself after another one failed; a launcher gives its own as many
_ENDED = "clm/ended"  # is in the store that a run's processes share once one of them has
_store: distributed.Store | None = None  # that one, while the others are watched
_waits = 0  # how often this process has waited by way of it
_ends = threading.Event()  # this process does, one way or the other
_last_words: Callable[[BaseException], None] | None = None  # what is still to be done where another one ends this one
_T = TypeVar("_T")


def main_process() -> bool:
    """Whether this is the one process that prints and writes."""
    return PartialState().is_main_process


def on_main(work: Callable[[], _T], patient: bool = False) -> _T:
    """What `work` returns or raises on the main process, the only one that does it, on every process.

    Args:
        patient: whether the others wait for a day if need be, as for a download, and not only for ddp_timeout.
    """
    outcome: list = [None, None]
    if main_process():
        try:
            outcome = [work(), None]
        except (UserError, MachineError) as error:
            outcome = [None, error]
    if PartialState().num_processes > 1:
        if patient:
            _wait_for([0])
        distributed.broadcast_object_list(outcome)
    result, error = outcome
    if error:
        raise error
    return result


def _wait_for(ranks: Sequence[int]) -> None:
    """Return once the processes of these ranks have called this as often as this one has.

    That may take a day, where messages between processes may take ddp_timeout.
    """
    global _waits
    if _store is None:
        return
    _waits += 1
    _store.set(f"clm/wait-{_waits}/{distributed.get_rank()}", "")
    _store.wait([f"clm/wait-{_waits}/{rank}" for rank in ranks], timedelta(days=1))


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
    with machine_faults():
        _end_group()


def watch_others() -> None:
    """From now on, end this process soon after another one said that it fails, whatever this one waits for.

    gloo tells a process that one it waits for is gone. NCCL may not: on another machine, where no launcher ends it, a
    process would wait within a kernel for as long as ddp_timeout says.
    """
    global _store
    if PartialState().num_processes > 1:
        _store = distributed.distributed_c10d._get_default_store()
        _ends.clear()
        threading.Thread(target=_watch, args=(_store.clone(),), name="watch", daemon=True).start()


def _watch(store: distributed.Store) -> None:
    try:
        store.wait([_ENDED], timedelta(days=365))
    except RuntimeError:  # the connection is lost, which alone is no reason to end
        return
    if _ends.wait(GRACE):  # where all is well, it does
        return
    what = "another process of this run has failed: look for its own message, then run the same command again"
    error = signals.stopped() if signals.reason() else PeerFault(what)
    if _last_words:
        _last_words(error)
    _exit(report(error))


@contextmanager
def last_words(write: Callable[[BaseException], None]) -> Iterator[None]:
    """Call `write` with the error where another process's end ends this one: no exception passes through the block."""
    global _last_words
    _last_words = write
    try:
        yield
    finally:
        _last_words = None


def say_why(error: UserError | MachineError | Stopped) -> int:
    """Print the line of what ends this process, and tell the others, who may wait for it in vain; the exit code."""
    exit_code = report(error)
    _tell(error)
    return exit_code


def _tell(error: BaseException) -> None:
    _ends.set()
    if _store and not (isinstance(error, Stopped) and error.agreed):
        with suppress(RuntimeError):  # the process that keeps the store is gone
            _store.set(_ENDED, "")
            _store.get(_ENDED)  # which answers once it has told the others; it may be this process that keeps it


def _end_group() -> None:
    global _store
    if not distributed.is_initialized():
        return
    _wait_for(range(distributed.get_world_size()))  # the main one may have to finish a push
    distributed.barrier()
    _ends.set()
    if _store:
        with suppress(RuntimeError):  # the process that keeps the store was faster
            _store.set(_ENDED, "")
        for thread in threading.enumerate():
            if thread.name == "watch":
                thread.join()
        _store = None
    distributed.destroy_process_group()


def _leave(error: BaseException) -> NoReturn:
    if isinstance(error, (UserError, MachineError, Stopped)):
        exit_code = say_why(error)
    else:
        traceback.print_exception(error)
        _tell(error)
        exit_code = 1
    _exit(exit_code)


def _exit(exit_code: int) -> NoReturn:
    """Without anything else on the way out."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
