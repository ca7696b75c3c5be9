"""The values that a sweep may give a key."""

import itertools
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from clm.config.keys import checked
from clm.config.values import fits, show
from clm.errors import UserError

# Keys that a sweep sets itself, and keys without which its trials' losses could not be compared.
OWN = dict.fromkeys(("max_steps", "num_train_epochs"), "the sweep's tokens set it") | dict.fromkeys(
    ("output_dir", "resume_from_checkpoint", "stop_after_minutes"), "the sweep sets it"
)
_TEXT = (
    "dataset_name dataset_config_name dataset_revision train_file validation_file text_column text_encoding "
    "csv_delimiter document_separator validation_split_percentage tokenizer_path vocab_size tokenizer_train_bytes "
    "cache_dir"
)
SHARED = dict.fromkeys(_TEXT.split(), "losses of other texts or tokenizers can't be compared")
SEED_SPLITS = (
    "seed can't be varied: it chooses the validation text here, and losses of other texts can't be compared; give "
    "validation_file, or vary data_seed, which is the order alone"
)
_FORMS = '{"log_uniform": [low, high]}, {"uniform": [low, high]}, {"integer": [low, high]} or {"choices": [a, b, …]}'
_LIMITS = {"log_uniform": "numbers above 0", "uniform": "numbers", "integer": "whole numbers"}


def space_of(key: str, given: Any, where: str) -> BaseDistribution:
    """The values that `key` may take.

    Raises:
        UserError: the key can't be varied, one of the values isn't allowed, or there are fewer than two.
    """
    if key in OWN | SHARED:
        raise UserError(f"{where}: {key} can't be varied: {(OWN | SHARED)[key]}")
    kinds = [kind for kind in (*_LIMITS, "choices") if isinstance(given, dict) and kind in given]
    if len(kinds) != 1 or given.keys() - {kinds[0], *(["step"] * (kinds[0] == "integer"))}:
        checked({key: None} if not kinds else {}, where)
        raise UserError(f"{where}: {key} is {show(given)}; it must be {_FORMS}")
    kind, values = kinds[0], given[kinds[0]]
    if not isinstance(values, list) or len({show(value) for value in values}) < 2:
        raise UserError(f"{where}: {key} has {show(values)} to choose from: give two values or more")
    for value in values:
        checked({key: value}, where)
    if kind == "choices":
        return _choices(key, values, where)
    return _range(key, kind, values, given.get("step", 1), where)


def _choices(key: str, values: list[Any], where: str) -> BaseDistribution:
    if any(isinstance(value, list | dict) for value in values):
        raise UserError(f"{where}: {key} has {show(values)}: choices are numbers, texts, true, false and null")
    return CategoricalDistribution(values)


def _range(key: str, kind: str, values: list[Any], step: Any, where: str) -> BaseDistribution:
    wanted = int if kind == "integer" else float
    ordered = len(values) == 2 and all(fits(v, wanted) for v in values) and values[0] < values[1]
    if not ordered or (kind == "log_uniform" and values[0] <= 0):
        raise UserError(f"{where}: {key} is {show(values)}: {kind} takes two {_LIMITS[kind]}, the lower one first")
    low, high = values
    if kind != "integer":
        return FloatDistribution(low, high, log=kind == "log_uniform")
    if not fits(step, int) or not 1 <= step <= high - low or (high - low) % step:
        raise UserError(f"{where}: {key} has step {show(step)}, which doesn't lead from {low} to {high}")
    return IntDistribution(low, high, step=step)


def holds(space: BaseDistribution, value: Any) -> bool:
    """Whether a value is one of them."""
    if isinstance(space, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in space.choices)
    if not fits(value, float) or not space.low <= value <= space.high:
        return False
    return not isinstance(space, IntDistribution) or (value - space.low) % space.step == 0


def combinations(spaces: dict[str, BaseDistribution]) -> list[dict[str, Any]]:
    """All values that the keys may have together, the last key's changing fastest; none where a key has a range."""
    if any(isinstance(space, FloatDistribution) for space in spaces.values()):
        return []
    together = itertools.product(*map(_values, spaces.values()))
    return [dict(zip(spaces, values, strict=True)) for values in together]


def _values(space: BaseDistribution) -> Sequence[Any]:
    return space.choices if isinstance(space, CategoricalDistribution) else range(space.low, space.high + 1, space.step)


def is_log(space: BaseDistribution) -> bool:
    """Whether its values are spread evenly in the logarithm."""
    return bool(getattr(space, "log", False))
