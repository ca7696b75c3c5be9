"""run_status.json: how a run stands, for Slurm, scripts and the next start."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clm.errors import Stopped
from clm.files import read_json_object, write_json
from clm.launch.processes import last_words, main_process
from clm.numbers import count

STATUS_FILE = "run_status.json"


@contextmanager
def status_of(output_dir: Path, total_steps: int) -> Iterator[None]:
    """Keep run_status.json true from the first step to the last: running, then finished, stopped or failed."""
    if not main_process():
        yield
        return

    def ended(error: BaseException) -> None:
        exit_code = getattr(error, "exit_code", 1)
        reason = " ".join(str(error).split()) or type(error).__name__
        with suppress(OSError):  # on a full disk the reason itself has no room
            state = "stopped" if isinstance(error, Stopped) else "failed"
            write_status(output_dir, state, total_steps, exit_code, reason)

    output_dir.mkdir(parents=True, exist_ok=True)
    write_status(output_dir, "running", total_steps)
    try:
        with last_words(ended):
            yield
    except BaseException as error:
        ended(error)
        raise
    write_status(output_dir, "finished", total_steps, exit_code=0)


def write_status(
    output_dir: Path, state: str, total_steps: int, exit_code: int | None = None, reason: str | None = None
) -> None:
    """Write the state of a run of `total_steps`: running, stopped, failed or finished."""
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


def finished_steps(output_dir: Path) -> int | None:
    """The planned steps of the run that finished in `output_dir`; None if none did."""
    status = read_json_object(output_dir / STATUS_FILE)
    return count(status.get("total_steps")) if status.get("state") == "finished" else None
