"""What long work tells: lines, and on a terminal a bar with rate and time left."""

import sys
from collections.abc import Callable

from tqdm import tqdm

Say = Callable[[str], None]  # prints a line; does nothing on all processes but the main one


class ByteProgress:
    """A bar that counts bytes; `total` is None when it isn't known."""

    def __init__(self, description: str, total: int | None, show: bool = True) -> None:
        self._bar = tqdm(
            desc=description,
            total=total,
            unit="B",
            unit_scale=True,
            file=sys.stderr,
            leave=False,
            disable=None if show else True,
        )

    def at(self, position: int) -> None:
        """Say that `position` bytes are done in all."""
        self._bar.update(position - self._bar.n)

    def __enter__(self) -> "ByteProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class StepProgress:
    """A bar that counts steps of a known number, on the process that shows it."""

    def __init__(self, description: str, total: int, show: bool = True) -> None:
        self._bar = tqdm(desc=description, total=total, file=sys.stderr, disable=None if show else True, leave=False)

    def step(self) -> None:
        """One more is done."""
        self._bar.update()

    def __enter__(self) -> "StepProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
