"""The two failures that are not our bugs, the user's input and the machine's limits, and the stop that is no failure.

Each carries one line that says what is wrong, where, and what to do. `run_clm.py` and `python -m clm` print it
to stderr and leave with `exit_code`; every other exception is a defect and keeps its traceback. An attribute
`reported` says that the line is printed already.
"""

import os
import select
import sys
from collections.abc import Callable
from io import TextIOWrapper


class UserError(Exception):
    """The input is at fault: a recipe, a file, a folder, a name."""

    exit_code = 2
    reported = False


class MachineError(Exception):
    """The machine or the training failed: disk, memory, a dead peer, a loss that isn't finite."""

    exit_code = 74
    reported = False


class ProcessFault(MachineError):
    """A fault of this process alone, of which the others know nothing: it says so itself, whatever its rank."""


class PeerFault(MachineError):
    """Another process is gone, or gives no answer."""


class Stopped(BaseException):
    """A signal, or the time limit, ended the run early; the same command goes on from what is saved.

    Like KeyboardInterrupt it is no Exception, so that no library takes it for a fault of its own and carries on.

    Attributes:
        agreed: whether all processes of the run stop at the same point, so that none waits for another.
    """

    exit_code = 75
    reported = False
    agreed = False


def exit_code_of(program: Callable[[], None]) -> int:
    """Run a program; its exit code: 0 for done, 2 for a fault in the input, 74 for the machine's, 75 for a stop.

    Where nobody reads what is printed any more (`… | head`), the program ends without a word, as others do: 0 if it had
    done all, else 141.
    """
    done = False
    if isinstance(sys.stdout, TextIOWrapper):  # a letter that the terminal hasn't, or a file's name that isn't UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            program()
        except SystemExit as leaves:
            done = not leaves.code
            raise
        else:
            done = True
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 0 if done else 141
    except (UserError, MachineError, Stopped) as error:
        return report(error)
    return 0


def report(error: UserError | MachineError | Stopped) -> int:
    """Print the line of what ended a run, once, on the process whose it is to say; the exit code.

    Of a run's processes only the first prints the line. A fault of the machine is printed by the first process of each
    machine, because each machine has its own log, and a process's own fault by that process.
    """
    rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    text = f"{'stopped' if isinstance(error, Stopped) else 'error'}: {error}"
    says_it = (os.environ.get("LOCAL_RANK", "0") if isinstance(error, MachineError) else rank) == "0"
    if isinstance(error, ProcessFault) and processes != "1":
        text, says_it = f"error: process {rank} of {processes}: {error}", True
    if says_it and not error.reported:
        print(text, file=sys.stderr, flush=True)
    error.reported = True
    return error.exit_code


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that its reader has closed. Then what is left of it goes nowhere."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return False
    waiting = select.poll()
    waiting.register(output, 0)  # errors are told unasked
    gone = any(event & select.POLLERR for _, event in waiting.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone
