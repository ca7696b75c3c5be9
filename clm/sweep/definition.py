"""A sweep's file: the base recipe, the keys to vary, the budget; all of it checked before any work."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json

from clm.config.keys import checked
from clm.config.recipe import Recipe, load, merge, read_object
from clm.config.values import fits, show
from clm.errors import UserError
from clm.sweep.space import OWN, holds, space_of

# What every trial is run with, unless the sweep's `set` says otherwise: a curve to forecast from, a checkpoint at each
# of its points to resume from, and the model of the last step, because trials are compared after equal tokens.
TRIAL = {
    "eval_strategy": "steps",
    "eval_steps": 0.1,
    "save_strategy": "steps",
    "save_steps": 0.1,
    "save_total_limit": 1,
    "logging_steps": 0.02,
    "load_best_model_at_end": False,
    "early_stopping_patience": None,
    "stop_after_minutes": None,
    "num_train_epochs": 1,
    "push_to_hub": False,
}
_NUMBER = (lambda value: fits(value, float) and value > 0, "a number above 0")
_WHOLE = (lambda value: fits(value, int) and value >= 0, "a whole number from 0")
_TEXT = (lambda value: fits(value, str) and value != "", "a text")
_OBJECT = (lambda value: fits(value, dict) and bool(value), "an object that isn't empty")
KEYS = {
    "recipe": _TEXT,
    "vary": _OBJECT,
    "set": (lambda value: fits(value, dict), "an object"),
    "tokens": _NUMBER,
    "trials": (lambda value: fits(value, int) and value > 0, "a whole number from 1"),
    "minutes": _NUMBER,
    "repeats": _WHOLE,
    "flat": _NUMBER,
    "prune": (lambda value: isinstance(value, bool), "true or false"),
    "seed": _WHOLE,
    "output_dir": _TEXT,
}


@dataclass(frozen=True)
class Sweep:
    """What is searched, over what, and for how long.

    `tokens`: of each trial. `minutes`: of all trials together. `repeats`: of the best trial, in other orders of the
    text. `flat`: trials within so many nats of the best count as equal, where the repeats don't differ by more.
    """

    path: Path
    base: Recipe
    vary: dict[str, BaseDistribution]
    fixed: dict[str, Any]
    tokens: int
    trials: int | None
    minutes: float | None
    repeats: int
    flat: float
    prune: bool
    seed: int
    output_dir: Path

    def overrides(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a trial of these values sets over the base recipe: the steps, too, that come nearest to the tokens.

        Raises:
            UserError: the values don't go together.
        """
        keys = merge(TRIAL, self.fixed, values)
        return keys | {"max_steps": max(1, round(self.tokens / tokens_per_step(self._load(keys))))}

    def recipe(self, values: dict[str, Any], **more: Any) -> Recipe:
        """A trial's recipe; UserError as above."""
        return self._load(self.overrides(values) | more)

    def _load(self, overrides: dict[str, Any]) -> Recipe:
        return load(self.base.path, overrides, str(self.path))

    def described(self) -> dict[str, Any]:
        """What makes two sweeps the same search, as plain data."""
        base = {key: value for key, value in self.base.resolved().items() if key != "output_dir"}
        space = {key: json.loads(distribution_to_json(values))["attributes"] for key, values in self.vary.items()}
        return {"vary": space, "set": self.fixed, "tokens": self.tokens, "seed": self.seed, "recipe": base}

    def start(self) -> dict[str, Any] | None:
        """The base recipe's own values, where all of them lie within the space."""
        own = load(self.base.path, self.fixed, str(self.path)).resolved()
        values = {key: own.get(key) for key in self.vary}
        return values if all(holds(space, values[key]) for key, space in self.vary.items()) else None


def tokens_per_step(recipe: Recipe) -> int:
    """Of a recipe on one process."""
    return recipe.sequences_per_step(1) * recipe.data.block_size


def read(path: Path) -> Sweep:
    """The sweep in a file.

    Raises:
        UserError: something in it, or its base recipe, is at fault.
    """
    given = read_object(path, "sweep")
    _check(path, given)
    fixed = checked(given.get("set", {}), f"{path}, set")
    for key in fixed:
        if key in given["vary"]:
            raise UserError(f"{path}: {key} is in set and in vary: leave one out")
        if key in OWN:
            raise UserError(f"{path}: set has {key}, but {OWN[key]}")
    sweep = Sweep(
        path=path,
        base=load(given["recipe"]),
        vary={key: space_of(key, values, f"{path}, vary") for key, values in given["vary"].items()},
        fixed=fixed,
        tokens=round(given["tokens"]),
        trials=given.get("trials"),
        minutes=given.get("minutes"),
        repeats=given.get("repeats", 0),
        flat=given.get("flat", 0.02),
        prune=given.get("prune", False),
        seed=given.get("seed", 0),
        output_dir=Path(given.get("output_dir") or f"runs/sweeps/{path.stem}"),
    )
    sweep.recipe({})  # base and set go together
    return sweep


def _check(path: Path, given: dict[str, Any]) -> None:
    for key, value in given.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KEYS)}"
            raise UserError(f"{path}: a sweep has no key {show(key)}; {hint}")
        test, allowed = KEYS[key]
        if not test(value):
            raise UserError(f"{path}: {key} is {show(value)}; it must be {allowed}")
    missing = [key for key in ("recipe", "vary", "tokens") if key not in given]
    if not missing and not given.keys() & {"trials", "minutes"}:
        missing = ["trials or minutes"]
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing; a sweep has recipe, vary, tokens, and trials or minutes")
