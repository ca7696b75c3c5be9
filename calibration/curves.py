"""Files of reference runs: a JSON list with a run a line."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from clm.files import read_json, write_text

LOCKS = Path("runs")


def write_runs(file: Path, curves: Iterable[dict[str, Any]]) -> None:
    """Write them in this order."""
    lines = ",\n".join(json.dumps(curve, separators=(",", ":")) for curve in curves)
    write_text(file, f"[\n{lines}\n]\n")


def keep(file: Path, curve: dict[str, Any], order: Sequence[str]) -> None:
    """Put a run into the file, in place of one of its name. Several processes may do so at once.

    Args:
        order: names of the file's runs; one without a name in it comes first.
    """
    LOCKS.mkdir(exist_ok=True)
    with FileLock(LOCKS / f"{file.stem}.lock"):
        curves = [other for other in read_json(file) or [] if other["name"] != curve["name"]]
        places = {name: place for place, name in enumerate(order)}
        write_runs(file, sorted([*curves, curve], key=lambda one: places.get(one["name"], 0)))
