"""Parts in turn, each in a process of its own that may crash, hang or run out of memory without harm to the others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.commands import environment
from benchmarks.gpu.rows import Row, failed
from benchmarks.gpu.setting import ROOT

LAST_LINES = 25  # of the log of a part that failed


@dataclass(frozen=True)
class Part:
    """One part: a function of a `Setting` that yields rows, as `module:function`, and its share of the seconds."""

    name: str
    check: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of it; `log` is the end of what it printed, where it failed."""

    rows: list[Row]
    seconds: float
    log: str = ""


def run(
    parts: Sequence[Part], folder: Path, budget: float, rehearsal: bool, say: Callable[[str], None]
) -> dict[str, Outcome]:
    """Run them all within `budget` seconds.

    A part has its own seconds and what those before it have left over; one for which nothing is left is NOT.
    """
    outcomes, until = {}, time.monotonic() + budget
    for number, part in enumerate(parts, 1):
        left = until - time.monotonic()
        limit = min(left, max(part.seconds, left - sum(later.seconds for later in parts[number:])))
        say(f"[{number}/{len(parts)}] {part.name}: at most {max(0, limit):.0f} s; {max(0, left):.0f} s left in all")
        if limit < 1:
            outcomes[part.name] = Outcome([failed(part.name, "no time was left for it")], 0.0)
            continue
        outcomes[part.name] = run_part(part, folder, limit, rehearsal)
        for row in outcomes[part.name].rows:
            if row.ok is False:
                say(f"      NOT: {row.name}: {row.figure} {row.unit} {row.target}".rstrip())
    return outcomes


def run_part(part: Part, folder: Path, seconds: float, rehearsal: bool) -> Outcome:
    """Run one; the rows that it had yielded before it failed count."""
    rows_file, log_file = folder / f"{part.name}.rows", folder / f"{part.name}.log"
    rows_file.touch()
    words = [part.check, str(folder), str(rows_file), str(seconds), *["--rehearse"] * rehearsal]
    more = {"CUDA_VISIBLE_DEVICES": ""} if rehearsal else {}
    began = time.monotonic()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", *words],
            cwd=ROOT,
            env=environment(PYTHONPATH=os.pathsep.join([str(ROOT), *_paths()]), **more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a group of its own, which is ended with it
        )
        try:
            why = _ended(process.wait(seconds))
        except subprocess.TimeoutExpired:
            why = f"it took longer than {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError, PermissionError):  # what it started, too, whatever became of it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found = [Row(**json.loads(line)) for line in rows_file.read_text("utf-8").splitlines() if line.endswith("}")]
    lines = log_file.read_text("utf-8", "replace").strip().splitlines()
    if why is None and not found:
        why = "it found nothing"
    if why is None:
        return Outcome(found, time.monotonic() - began)
    if lines and not why.startswith("it took"):
        why = f"{why}: {lines[-1][:200]}"
    return Outcome([*found, failed(part.name, why)], time.monotonic() - began, "\n".join(lines[-LAST_LINES:]))


def _paths() -> list[str]:
    """Where else a part may be imported from."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _ended(code: int) -> str | None:
    """Why a process ended so, if not well."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else None
