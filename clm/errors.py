"""The two failures that are not our bugs, the user's input and the machine's limits, and the stop that is no failure.

Each carries one line that says what is wrong, where, and what to do. `run_clm.py` and `python -m clm` print it
to stderr and leave with `exit_code`; every other exception is a defect and keeps its traceback.
"""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """The input is at fault: a recipe, a file, a folder, a name."""

    exit_code = 2


class MachineError(Exception):
    """The machine or the training failed: disk, memory, a dead peer, a loss that isn't finite."""

    exit_code = 74


class Stopped(BaseException):
    """A signal, or the time limit, ended the run early; the same command goes on from what is saved.

    Like KeyboardInterrupt it is no Exception, so that no library takes it for a fault of its own and carries on.
    """

    exit_code = 75


def exit_code_of(program: Callable[[], None]) -> int:
    """Run a program; its exit code: 0 for done, 2 for a fault in the input, 74 for the machine's, 75 for a stop.

    Of a run's processes only the first prints the line. A fault of the machine is printed by the first process of each
    machine, because each machine has its own log.
    """
    try:
        program()
    except (UserError, MachineError, Stopped) as error:
        rank = "LOCAL_RANK" if isinstance(error, MachineError) else "RANK"
        if os.environ.get(rank, "0") == "0":
            kind = "stopped" if isinstance(error, Stopped) else "error"
            print(f"{kind}: {error}", file=sys.stderr)
        return error.exit_code
    return 0
