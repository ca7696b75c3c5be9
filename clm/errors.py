"""The two failures that are not our bugs, the user's input and the machine's limits, and the stop that is no failure.

Each carries one line that says what is wrong, where, and what to do. `run_clm.py` and `python -m clm` print it
to stderr and leave with `exit_code`; every other exception is a defect and keeps its traceback. An attribute
`reported` says that the line is printed already.
"""

import errno
import os
import select
import sys
from collections.abc import Callable
from io import TextIOWrapper

# What a path that a user names can be at fault in: no permission, too long, a link to itself, a file as a folder.
_OF_A_PATH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)


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
    except OSError as error:
        if (fault := path_fault(error)) is None:
            raise
        return report(fault)
    return 0


def path_fault(error: OSError) -> UserError | None:
    """The user's fault, where that is why a path couldn't be used; it names the path."""
    if error.errno not in _OF_A_PATH or error.filename is None:
        return None
    return UserError(f"{error.filename}: can't be used ({error.strerror}); name another file or folder, or allow it")


def report(error: UserError | MachineError | Stopped) -> int:
    """Print the line of what ended a run, once, on the process whose it is to say; the exit code.

    Of a run's processes only the first prints the line. A fault of the machine is printed by the first process of each
    machine, because each machine has its own log, and a process's own fault by that process.
    """
    rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    text = f"{'stopped' if isinstance(error, Stopped) else 'error'}: {one_line(error)}"
    says_it = (os.environ.get("LOCAL_RANK", "0") if isinstance(error, MachineError) else rank) == "0"
    if isinstance(error, ProcessFault) and processes != "1":
        text, says_it = f"error: process {rank} of {processes}: {one_line(error)}", True
    if says_it and not error.reported:
        print(text, file=sys.stderr, flush=True)
    error.reported = True
    return error.exit_code


def one_line(value: object) -> str:
    """Its text, line ends as they are written in Python: a file's name may hold one."""
    return str(value).replace("\n", "\\n").replace("\r", "\\r")


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
