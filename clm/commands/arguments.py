"""A parser whose complaints are UserErrors, and the types of its options."""

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from clm.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise the UserError."""
        raise UserError(f"command line: {message}; see python -m clm --help")


class CommandParser(Parser):
    """The options of one command.

    Args:
        module: the docstring of the command's module, which is what `--help` says of it.
    """

    def __init__(self, command: str, module: str | None, epilog: str | None = None) -> None:
        super().__init__(prog=f"python -m clm {command}", description=module, epilog=epilog, allow_abbrev=False)
        self._command = command

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options in `words`; UserError for a word that isn't one."""
        args, rest = self.parse_known_args(words)
        if rest:
            raise UserError(f"command line: {rest[0]} isn't known to {self._command}; see python -m clm --help")
        return args


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't 1 or more")
    return int(text)


def seed(text: str) -> int:
    """A whole number from 0, as a recipe's `seed`."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} isn't from 0 to 2^32 - 1")
    return int(text)


def amount(text: str) -> float:
    """A number above 0: 30e6."""
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't a number above 0")


def truth(text: str) -> bool:
    """True or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
