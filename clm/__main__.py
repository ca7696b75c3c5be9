"""`python -m clm COMMAND`: what can be asked without training anything."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clm.errors import MachineError, UserError
from clm.files import write_json
from clm.insight import plan
from clm.recipe import parse

USAGE = (
    "usage: python -m clm plan --config RECIPE [--key value ...] [--dataset_tokens N] [--processes N] [--output FILE]"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit codes as run_clm.py's."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    try:
        if words[0] != "plan":
            raise UserError(f"{words[0]!r} isn't a command of clm; {USAGE}")
        plan_command(words[1:])
    except (UserError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def take_option(words: list[str], name: str, kind: type) -> tuple[list[str], Any]:
    """Take `--name value` or `--name=value` out of `words`; (the other words, the value or None).

    Raises:
        UserError: the value is missing or isn't of `kind`.
    """
    rest, value, words = [], None, list(words)
    while words:
        word = words.pop(0)
        if word != f"--{name}" and not word.startswith(f"--{name}="):
            rest.append(word)
            continue
        text = word.partition("=")[2] if "=" in word else words.pop(0) if words else ""
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or value == "" or (kind is int and value < 1):
            raise UserError(
                f"command line: --{name} is {text!r}; it must be {'1 or more' if kind is int else 'a file'}"
            )
    return rest, value


def plan_command(words: list[str]) -> None:
    """Print a recipe's plan, and write it as JSON if asked to."""
    words, dataset_tokens = take_option(words, "dataset_tokens", int)
    words, processes = take_option(words, "processes", int)
    words, output = take_option(words, "output", str)
    if output and Path(output).is_dir():
        raise UserError(f"command line: --output {output} is a folder; give a file's name")
    made = plan.make(parse(words), dataset_tokens, processes or 1)
    print(plan.describe(made))
    if output:
        try:
            write_json(Path(output), plan.as_json(made))
        except OSError as error:
            raise UserError(f"command line: --output {output} can't be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
