"""TensorBoard's event files, by the tensorboard package."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clm.errors import UserError
from clm.runs.logs.collect import Collector
from clm.runs.logs.columns import LOSSES, classify, is_kind

PATTERN = "*tfevents*"
_MAGIC = b"brain.Event:"  # within the first record of every file


def files_in(folder: Path) -> list[Path]:
    """The event files in a folder and those in it, by their time of writing, which their names have."""
    return sorted((path for path in folder.rglob(PATTERN) if path.is_file()), key=lambda path: path.name)


def is_event_file(path: Path, head: bytes) -> bool:
    """By its name, or what it begins with."""
    return "tfevents" in path.name or _MAGIC in head[:64]


def take(files: list[Path], into: Collector) -> None:
    """Every scalar that may be a loss, in the order in which they were written.

    Folders in the folder are parts of a tag's name: TensorBoard's own way to draw training and validation in one chart.
    """
    top = files[0].parent if len({path.parent for path in files}) == 1 else _common(files)
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for path in files:
        inner = path.parent.relative_to(top).as_posix()
        for tag, time, step, value in _scalars(path):
            name = tag if inner == "." else f"{inner}/{tag}" if is_kind(inner) else f"{inner} - {tag}"
            column = classify(name)
            if column is not None and column.kind in LOSSES:
                rows.setdefault(name, []).append((time, step, value))
    names = list(rows)
    table = np.array([(*row, place) for place, name in enumerate(names) for row in rows[name]], float).reshape(-1, 4)
    for _, step, value, place in table[np.argsort(table[:, 0], kind="stable")]:
        into.take({"step": step, names[int(place)]: value})


def _common(files: list[Path]) -> Path:
    return next(parent for parent in files[0].parents if all(parent in path.parents for path in files))


def _scalars(path: Path) -> Iterator[tuple[str, float, float, float]]:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # takes a second to load
    from tensorboard.util.tensor_util import make_ndarray

    try:
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                number = make_ndarray(value.tensor) if value.HasField("tensor") else np.array(value.simple_value)
                if number.size == 1 and np.issubdtype(number.dtype, np.number):
                    yield value.tag, event.wall_time, event.step, float(number.reshape(()))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except Exception as error:  # of the package: what it raises for a damaged file isn't documented
        raise UserError(f"{path}: no event file that can be read ({type(error).__name__})") from None
