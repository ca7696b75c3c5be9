"""The command line of a run: `--config recipes/NAME.json [--key value …]`. Any key of a recipe can be given there."""

import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from clm.config.checks import fragment_conflicts
from clm.config.fields import TRAINING_DEFAULTS, Flags
from clm.config.keys import COMMAND_LINE, ELSEWHERE, FLAGS, OPTIONS, TRAINING, checked, hint_of
from clm.config.recipe import Recipe, assembled, load, merge, read_object
from clm.config.values import allowed, parts, read, show
from clm.errors import UserError


def parse(argv: Sequence[str]) -> Recipe:
    """The recipe of `--config FILE [--key value …]`; `--help` prints the keys and leaves."""
    if "--help" in argv or "-h" in argv:
        print(_usage())
        raise SystemExit(0)
    given = _split(argv)
    path, overrides = _typed(given)
    if not path:
        raise UserError("command line: no recipe is named; say --config recipes/NAME.json")
    return load(path, overrides, typed={key: text for key, text in given.items() if text is not None})


def fragment(argv: Sequence[str]) -> tuple[Recipe, frozenset[str]]:
    """What `[--config FILE] [--key value …]` tells of a run that somebody made elsewhere, and which keys it gives.

    Every key is checked as a recipe's. But no text need be named, and some values are taken that only ELSEWHERE has. A
    key that isn't given has a recipe's default; whether that holds for the run is for the caller to judge.
    """
    path, overrides = _typed(_split(argv))
    from_file = checked(read_object(Path(path)), path, ELSEWHERE) if path else {}
    overrides = checked(overrides, COMMAND_LINE, ELSEWHERE)
    recipe = assembled(Path(path or COMMAND_LINE), from_file, overrides, Flags())
    given = frozenset(merge(from_file, overrides))
    for conflict in fragment_conflicts(recipe.resolved(), given):
        raise UserError(f"{recipe.path}: {conflict}")
    return recipe, given


def _typed(given: dict[str, str | None]) -> tuple[str | None, dict[str, Any]]:
    """The recipe's file, if one is named, and the other keys with their values as what they mean."""
    path, overrides = given.pop("config", None), {}
    for key, text in given.items():
        hint = FLAGS.get(key) or hint_of(key, COMMAND_LINE)
        if text is None and bool not in parts(hint):
            raise UserError(f"command line: --{key} needs a value: {allowed(hint, key)}")
        overrides[key] = True if text is None else read(text, hint)
    return path, overrides


def _split(argv: Sequence[str]) -> dict[str, str | None]:
    """The words of the command line by key, as they were typed; None for a key without a value."""
    given: dict[str, str | None] = {}
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if not token.startswith("--"):
            raise UserError(f"command line: {show(token)} belongs to no key; say --config FILE or --key value")
        key, equals, value = token[2:].partition("=")
        if key in given:
            raise UserError(f"command line: --{key} is given twice")
        if not equals:
            value = tokens.pop(0) if tokens and not tokens[0].startswith("--") else None
        given[key] = value
    return given


def _usage() -> str:
    def block(title: str, names: Sequence[str]) -> str:
        return f"{title}:\n" + textwrap.fill(", ".join(names), 100, initial_indent="  ", subsequent_indent="  ")

    defaults = [[f"{f.name}={show(f.default)}" for f in fields(options)] for options in OPTIONS]
    training = [f"{key}={show(TRAINING_DEFAULTS[key])}" if key in TRAINING_DEFAULTS else key for key in TRAINING]
    return "\n\n".join(
        [
            "usage: accelerate launch run_clm.py --config recipes/NAME.json [--key value …]\n"
            "Every key of a recipe can be given here too, and then wins over the recipe's.",
            block("model", defaults[0]),
            block("data and tokenizer", defaults[1]),
            block("run", defaults[2]),
            block("training (transformers.TrainingArguments)", training),
            block("command line only", [f"--{key}" for key in ("config", *FLAGS)]),
        ]
    )
