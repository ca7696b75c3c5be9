"""A trial: an ordinary run in a folder of its own, started as a process, watched, and read when it has ended."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clm.config.recipe import Recipe
from clm.errors import Stopped
from clm.files import read_json_object, write_json
from clm.launch import lock_file
from clm.launch.signals import FOLLOW_PARENT
from clm.launch.status import STATUS_FILE
from clm.runs.record import read_run
from clm.sweep import pruning
from clm.sweep.study import Outcome

PROGRAM = (sys.executable, "-m", "run_clm")  # found where this package was found
POLL_SECONDS = 1.0


def run(recipe: Recipe, hopeless: Callable[[Path], bool]) -> Outcome:
    """Train a trial's recipe, or resume it, and say how it ended. Its recipe and its log lie next to its folder.

    Args:
        recipe: with the trial's output_dir.
        hopeless: whether the run in that folder, so far, is to be given up.

    Raises:
        Stopped: by a signal. The trial has saved a checkpoint.
    """
    folder, started = Path(recipe.training["output_dir"]), time.monotonic()
    config = folder.with_name(f"{folder.name}.json")
    write_json(config, recipe.resolved())
    while lock_file.taken(folder):  # by a run whose sweep was killed, and which is saving
        time.sleep(POLL_SECONDS)
    pruned = False
    with folder.with_name(f"{folder.name}.log").open("a", encoding="utf-8") as log:
        # In a session of its own, so that Ctrl-C reaches it once: from here.
        process = subprocess.Popen(
            [*PROGRAM, "--config", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, FOLLOW_PARENT: str(os.getpid())},
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                if not pruned and hopeless(folder):
                    pruned = True
                    process.terminate()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return _outcome(folder, process.returncode, pruned, time.monotonic() - started)


def _outcome(folder: Path, code: int, pruned: bool, seconds: float) -> Outcome:
    if code == Stopped.exit_code and not pruned:
        raise Stopped(f"{folder} was asked to stop; run the same command again to resume")
    record = read_run(folder) if (folder / "recipe.json").is_file() else None
    tokens = (record.tokens_at(record.step) or 0) if record else 0
    known = {"tokens": tokens, "seconds": seconds}
    if code == 0:
        loss = record.metrics["eval_loss"]
        baseline = math.log(record.vocab_size)
        kind = "complete" if loss < baseline else "diverged"
        reason = "" if kind == "complete" else f"a loss of {loss:.2f} is above the uniform baseline, {baseline:.2f}"
        return Outcome(kind, loss, reason, **known, forecasts=pruning.forecasts(folder))
    if code == Stopped.exit_code:
        reason = "its forecast was above the best loss"
        return Outcome("pruned", None, reason, **known, forecasts=pruning.forecasts(folder))
    reason = read_json_object(folder / STATUS_FILE).get("reason") or _last_line(folder) or f"exit code {code}"
    return Outcome("diverged" if "isn't finite" in reason else "failed", None, reason, **known)


def _last_line(folder: Path) -> str:
    """Of what the run has said."""
    lines = folder.with_name(f"{folder.name}.log").read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""
