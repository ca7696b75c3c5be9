"""What asks a run to stop early: signals, a time limit, and the death of its launcher."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from clm.errors import Stopped, UserError

_LAUNCHER_ENDED = signal.SIGUSR2
_ASKED_BY = {
    signal.SIGTERM: "SIGTERM",
    signal.SIGINT: "SIGINT",
    signal.SIGUSR1: "SIGUSR1",
    signal.SIGALRM: "stop_after_minutes",
    _LAUNCHER_ENDED: "the end of its launcher",
}
_SECOND = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1
FOLLOW_PARENT = "CLM_FOLLOW_PARENT"  # in the environment of a run that is to stop when its parent dies: who that is
_LAUNCHERS = ("accelerate", "torchrun", "torch.distributed", "torch/distributed")  # in a launcher's command

_reason: str | None = None
_asked_at = 0.0
_deferred = False


def reason() -> str | None:
    """What asked this process to stop; None while nothing has."""
    return _reason


def end_at_once() -> None:
    """Until `caught`, let a signal or the launcher's death end the process, with one line and no traceback.

    To be called before the imports that take seconds. The modules that this one imports take none.
    """
    for number in (*_SECOND, _LAUNCHER_ENDED):
        signal.signal(number, _end)
    _follow_launcher()


@contextmanager
def caught() -> Iterator[None]:
    """Catch the signals. Each raises Stopped wherever the process is; within `deferred` it is only remembered.

    A second signal ends the process at once.

    Raises:
        UserError: this isn't the main thread, which alone gets signals.
    """
    global _reason
    if threading.current_thread() is not threading.main_thread():
        raise UserError(
            "a run was started in a thread beside the main one, where no signal could stop it: call it in "
            "the main thread, or as a process of its own"
        )
    _reason = None
    before = {number: signal.signal(number, _ask) for number in _ASKED_BY}
    _follow_launcher()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Let the code within look at `reason()` where it can stop. A signal that it has not seen raises Stopped here."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    if _reason:
        raise stopped()


def stop_after(minutes: float) -> None:
    """Ask for a stop after so many minutes. Setting the system's clock doesn't change when that is."""
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)


def stopped(where: str = "", agreed: bool = False) -> Stopped:
    """The Stopped to raise; `where` says how far the run got and what is saved. `agreed` as in Stopped."""
    stop = Stopped(f"by {_reason or 'another process'}{where}; run the same command again to resume")
    stop.agreed = agreed
    return stop


def _end(number: int, _: FrameType | None) -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"stopped: by {_ASKED_BY[number]}; run the same command again to resume\n".encode())
    os._exit(Stopped.exit_code)


def _ask(number: int, _: FrameType | None) -> None:
    global _reason, _asked_at
    if _reason is None:
        _reason, _asked_at = _ASKED_BY[number], time.monotonic()
        if not _deferred:
            raise stopped()
    elif number in _SECOND and time.monotonic() - _asked_at >= _one_signal_lasts():
        os.write(2, b"stopped at once; the same command resumes from the newest complete checkpoint\n")
        os._exit(128 + number)


def _one_signal_lasts() -> float:
    """Seconds in which another signal counts as the same one.

    The launcher of several processes passes on what the terminal or Slurm has already sent to them, too.
    """
    return 1.0 if "TORCHELASTIC_RUN_ID" in os.environ else 0.0


def _follow_launcher() -> None:
    """Have Linux send a signal when the launcher dies.

    The launcher of a single process passes no signal on, and no launcher can pass SIGKILL on.
    """
    launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID", FOLLOW_PARENT} & os.environ.keys()
    if not launched or sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(_LAUNCHER_ENDED), 0, 0, 0)
    if _orphaned(parent) or os.getppid() != parent:  # it died before it could be followed
        os.kill(os.getpid(), _LAUNCHER_ENDED)


def _orphaned(parent: int) -> bool:
    """Whether this parent isn't the one that started the process. In a container a launcher may be process 1 itself."""
    expected = os.environ.get(FOLLOW_PARENT)
    if expected:
        return str(parent) != expected
    if parent != 1:
        return False
    try:
        command = Path("/proc/1/cmdline").read_text(errors="replace")
    except OSError:  # hidden from us
        return False
    return not any(name in command for name in _LAUNCHERS)
