"""The keys that a recipe may have, each with its type and what a value must be. Each fault is a UserError of one line.

`fields.py` has this project's keys, `training_keys.py` those of TrainingArguments, `limits.py` what both may be.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from clm.config.fields import REFUSED, DataOptions, Flags, ModelOptions, RunOptions
from clm.config.limits import CHOICES, RANGES
from clm.config.training_keys import TRAINING
from clm.config.values import allowed, fits, parts, plain, read, show
from clm.errors import UserError

COMMAND_LINE = "command line"  # where a value is from, in messages
OPTIONS = (ModelOptions, DataOptions, RunOptions)
OURS = {key: hint for options in OPTIONS for key, hint in get_type_hints(options).items()}
OURS["resume_from_checkpoint"] = str | bool | None  # true and false are texts once a recipe is read
KEYS = OURS | TRAINING
FLAGS = get_type_hints(Flags)
# What a run that was made elsewhere may have, and a recipe may not: an optimizer of any name, a few characters as ids.
ELSEWHERE: dict[str, Callable[[Any], bool]] = {
    "optim": lambda value: isinstance(value, str) and value != "" and plain(value),
    "vocab_size": lambda value: fits(value, int) and 2 <= value < 2**32,
}


def hint_of(key: str, where: str) -> Any:
    """The type of a key; UserError, which says `where`, where there is no such key or it isn't taken."""
    if key in KEYS:
        return KEYS[key]
    if key in REFUSED:
        raise UserError(f"{where}: {key} is not taken: {REFUSED[key]}")
    if key in FLAGS or key == "config":
        raise UserError(f"{where}: {key} belongs on the command line, as --{key}")
    near = difflib.get_close_matches(key, KEYS, n=1)
    advice = f"did you mean {near[0]}?" if near else "see --help"
    raise UserError(f"{where}: no key is called {show(key)}; {advice}")


def checked(
    values: Mapping[str, Any], where: str, also: Mapping[str, Callable[[Any], bool]] | None = None
) -> dict[str, Any]:
    """The same values; UserError, which says `where`, unless every key is known and its value allowed.

    Args:
        also: tests of values that are allowed besides, by key.
    """
    for key, value in values.items():
        if not (also and key in also and also[key](value)):
            check_value(key, value, hint_of(key, where), where)
    return dict(values)


def is_allowed(key: str, value: Any) -> bool:
    """Whether there is such a key, and it may have this value."""
    try:
        check_value(key, value, hint_of(key, ""), "")
    except UserError:
        return False
    return True


def check_value(key: str, value: Any, hint: Any, where: str) -> None:
    """UserError unless `value` has the type and the range that `key` wants."""
    wrong = not (fits(value, hint) and plain(value))
    if not wrong and value is not None:
        wrong = value == "" or not all(v in CHOICES[key] for v in _listed(value) if key in CHOICES)
        wrong = wrong or (key in RANGES and not RANGES[key][0](value))
    if wrong:
        name = f"--{key}" if where == COMMAND_LINE else key
        fault = f"{where}: {name} is {show(value)}; it must be {allowed(hint, key)}"
        if isinstance(value, str) and fits(read(value, hint), hint) and str not in parts(hint):
            fault = f"{fault}; drop the quotes"
        raise UserError(fault)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
