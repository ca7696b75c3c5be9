"""The runs below a folder in a few facts each, read without torch, also while they run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clm.files import read_json_object
from clm.launch.lock_file import taken
from clm.numbers import count, number
from clm.training.checkpoint.folders import folders_in, is_name, step_of

STATUS_FILE, STATE_FILE, VERDICT_FILE = "run_status.json", "trainer_state.json", "verdict.json"
SIGNS_OF_A_RUN = (STATUS_FILE, STATE_FILE, "run_identity.json", ".lock")
Json = dict[str, Any]


def overview(root: Path) -> list[Json]:
    """The runs in and below `root`, the one that changed last first. What a run's folder doesn't tell is None.

    Each has `folder`, `state` (starting, running, died, stopped, failed, finished or unknown), `reason`, `step`,
    `total_steps`, `loss` (nats a token) and what it is of (`kind`: validation or training), `verdict` (below, within,
    above or can't say), `forecast` ({"loss", "low", "high"}), `findings`, and `changed` (seconds since 1970).
    """
    return sorted(map(of_run, run_folders(root)), key=lambda run: -run["changed"])


def run_folders(root: Path) -> Iterator[Path]:
    """The folders of runs in and below `root`."""
    for name, inner, files in os.walk(root):
        inner[:] = sorted(each for each in inner if not each.startswith(".") and not is_name(each))
        if any(sign in files for sign in SIGNS_OF_A_RUN):
            yield Path(name)


def of_run(folder: Path) -> Json:
    """How one run stands."""
    status, verdict = read_json_object(folder / STATUS_FILE), read_json_object(folder / VERDICT_FILE)
    file = _newest_state(folder)
    saved = read_json_object(file) if file else {}
    step, loss, kind = _latest(saved)
    if (count(verdict.get("step")) or 0) >= step:  # it is of the newest evaluation, a saved state may be older
        step, loss, kind = verdict.get("step", step), number(verdict.get("loss")), "validation"
    state = _state(folder, status.get("state"))
    forecast = verdict.get("forecast")
    return {
        "folder": str(folder),
        "state": state,
        "reason": status.get("reason") if state in ("stopped", "failed") else None,
        "step": max(step, count(saved.get("global_step")) or 0),
        "total_steps": count(status.get("total_steps")) or count(saved.get("max_steps")),
        "loss": loss,
        "kind": kind if loss is not None else None,
        "verdict": verdict.get("verdict"),
        "forecast": forecast if isinstance(forecast, dict) and state != "finished" else None,
        "findings": verdict.get("findings") or [],
        "changed": _changed(folder, file),
    }


def _state(folder: Path, told: Any) -> str:
    """What run_status.json says, and where a lock shows that this is no longer so, what the lock shows."""
    locked = taken(folder)
    if told == "running":
        return "died" if locked is False else "running"
    return "starting" if locked else str(told or "unknown")


def _newest_state(folder: Path) -> Path | None:
    """The saved state to read: the folder's own, which a finished run has, or its newest checkpoint's."""
    checkpoints = sorted(folders_in(folder), key=step_of, reverse=True)
    files = [place / STATE_FILE for place in (folder, *checkpoints) if (place / STATE_FILE).is_file()]
    return max(files, key=_time_of, default=None)


def _latest(state: Json) -> tuple[int, float | None, str]:
    """(step, loss, kind) of the newest evaluation in a saved state, or of its newest training loss."""
    log = state.get("log_history")
    log = [entry for entry in log if isinstance(entry, dict)] if isinstance(log, list) else []
    for key, kind in (("eval_loss", "validation"), ("loss", "training")):
        for entry in reversed(log):
            if count(entry.get("step")) is not None and number(entry.get(key)) is not None:
                return entry["step"], entry[key], kind
    return 0, None, "training"


def _changed(folder: Path, state: Path | None) -> float:
    return max(map(_time_of, (folder, folder / STATUS_FILE, folder / VERDICT_FILE, *([state] if state else []))))


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # not there, or a rotation has just deleted it
        return 0.0
