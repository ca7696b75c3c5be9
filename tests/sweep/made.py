"""Sweeps whose trials are made up: a study without a run."""

import json
from collections.abc import Callable
from pathlib import Path

from clm.sweep.definition import Sweep, read
from clm.sweep.study import Outcome, Study, Taken

RATE = {"learning_rate": {"log_uniform": [1e-4, 1.0]}}
BOTH = {**RATE, "n_layer": {"integer": [1, 4]}}


def write_sweep(name: str = "sweep.json", **changes: object) -> Path:
    """A sweep over tiny.json; a change to None takes the key out."""
    given = {"recipe": "tiny.json", "vary": RATE, "tokens": 1152, "trials": 4, "output_dir": "sweep"} | changes
    path = Path(name)
    path.write_text(json.dumps({key: value for key, value in given.items() if value is not None}), "utf-8")
    return path


def make_sweep(**changes: object) -> Sweep:
    return read(write_sweep(**changes))


def outcome(loss: float, kind: str = "complete", forecasts: tuple = ()) -> Outcome:
    return Outcome(kind, loss, "", 1152, 60.0, forecasts)


def run_through(study: Study, loss_of: Callable[[Taken], float | Outcome], most: int = 1000) -> list[dict]:
    """Take and finish trials until there is none; the values of each."""
    seen = []
    while len(seen) < most and (taken := study.take()):
        made = loss_of(taken)
        study.finish(taken, made if isinstance(made, Outcome) else outcome(made))
        seen.append(taken.values)
    return seen
