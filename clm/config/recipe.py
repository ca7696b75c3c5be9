"""A recipe: one flat JSON file with whatever overrides it, checked together before any work.

An override wins over the recipe, and the recipe over the defaults. Every fault is a UserError of one line.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from clm.config.checks import conflicts
from clm.config.fields import REFUSED, TRAINING_DEFAULTS, DataOptions, Flags, ModelOptions, RunOptions
from clm.config.keys import COMMAND_LINE, FLAGS, OPTIONS, check_value, checked
from clm.config.training_keys import PER_DEVICE_TRAIN_BATCH_SIZE
from clm.config.values import show
from clm.errors import UserError

# A value for the first key removes the second key of an earlier layer: of the recipe, or of the defaults.
REPLACES = (
    ("gradient_accumulation_steps", "global_batch_size"),
    ("global_batch_size", "gradient_accumulation_steps"),
    ("lr_scheduler_type", "lr_scheduler_kwargs"),
    ("optim", "optim_args"),
    ("weight_decay", "weight_decay_epochs"),
    ("weight_decay_epochs", "weight_decay"),
    ("train_file", "dataset_name"),
    ("train_file", "dataset_config_name"),
    ("train_file", "dataset_revision"),
    ("train_file", "streaming"),
    ("dataset_name", "train_file"),
    ("validation_file", "validation_split_percentage"),
    ("validation_split_percentage", "validation_file"),
)

# Of a micro-batch that a recipe leaves open, before a GPU is tried. A CPU gains nothing by more: it is busy with these,
# and needs more memory for others.
OPEN_TOKENS = 4096


@dataclass(frozen=True)
class Recipe:
    """One experiment, checked. `training` has the keywords of TrainingArguments. Equal recipes do the same work."""

    path: Path = field(compare=False)
    name: str = field(compare=False)
    model: ModelOptions
    data: DataOptions
    run: RunOptions
    training: dict[str, Any]
    flags: Flags = field(default_factory=Flags)
    typed: Mapping[str, str] = field(default_factory=dict, compare=False)  # on the command line, by key

    def resolved(self) -> dict[str, Any]:
        """The recipe as flat JSON: all keys of ours, and the training keys that we or the user have set.

        It is saved with the run. Read again, it gives an equal recipe; only the flags of the command line are lost.
        """
        ours = asdict(self.model) | asdict(self.data) | asdict(self.run)
        return ours | {key: value for key, value in self.training.items() if key not in REFUSED}

    def fault(self, text: str) -> UserError:
        """The error of a fault in values together: it names the file, and the words typed that have to do with it."""
        words = [f"--{key} {value}" for key, value in self.typed.items() if re.search(rf"\b{re.escape(key)}\b", text)]
        return UserError(f"{self.path}{' with ' * bool(words)}{' '.join(words)}: {text}")

    @property
    def is_micro_batch_open(self) -> bool:
        """Whether a GPU may take the largest micro-batch that fits: the batch of a step is set, and no part of it."""
        set_by = ("per_device_train_batch_size", "gradient_accumulation_steps")
        return self.run.global_batch_size is not None and not any(self.training.get(key) for key in set_by)

    def micro_batch(self, processes: int = 1) -> int:
        """Sequences that each of `processes` takes through the model at once, unless a GPU is found to take more.

        Where `global_batch_size` is set, it is the whole batch of a step that counts: a micro-batch that is no part of
        it becomes the largest smaller one that is.
        """
        given, total = self.training.get("per_device_train_batch_size"), self.run.global_batch_size
        if self.is_micro_batch_open:
            given = max(1, OPEN_TOKENS // self.data.block_size)
        given = given or PER_DEVICE_TRAIN_BATCH_SIZE
        if total is None or total % processes or self.training.get("gradient_accumulation_steps"):
            return given
        share = total // processes
        return next(size for size in range(min(given, share), 0, -1) if share % size == 0)

    def accumulation(self, processes: int, micro_batch: int | None = None) -> int:
        """Micro-batches that each of `processes` processes adds up to an optimizer step; UserError if not whole.

        Args:
            micro_batch: if it is another than the recipe's.
        """
        given, total = self.training.get("gradient_accumulation_steps"), self.run.global_batch_size
        if total is None:
            return given or 1
        batch = micro_batch or self.micro_batch(processes)
        steps, rest = divmod(total, batch * processes)
        if total % processes:
            raise self.fault(
                f"global_batch_size {total} is not a multiple of {processes} processes: launch another number of "
                "processes"
            )
        if rest or given not in (None, steps):
            product = f"per_device_train_batch_size {batch} x {processes} process(es)"
            makes = f"makes gradient_accumulation_steps {total / (batch * processes):g}, not {given}"
            raise self.fault(f"global_batch_size {total} with {product} {makes}: leave one of them out")
        return steps

    def sequences_per_step(self, processes: int) -> int:
        """Sequences of an optimizer step, over all processes; UserError as for the accumulation."""
        return self.micro_batch(processes) * self.accumulation(processes) * processes


def load(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    where: str = COMMAND_LINE,
    typed: Mapping[str, str] | None = None,
) -> Recipe:
    """The recipe in the file `path`, with `overrides` that win over it and come from `where`.

    Args:
        typed: the words on the command line, by key, for messages.
    """
    path, overrides = Path(path), dict(overrides or {})
    flags = {key: overrides.pop(key) for key in FLAGS if key in overrides}
    for key, value in flags.items():
        check_value(key, value, bool, where)
    from_file = checked(read_object(path), str(path))
    recipe = replace(assembled(path, from_file, checked(overrides, where), Flags(**flags)), typed=typed or {})
    for conflict in conflicts(recipe.resolved()):
        raise recipe.fault(conflict)
    return recipe


def assembled(path: Path, from_file: Mapping[str, Any], overrides: Mapping[str, Any], flags: Flags) -> Recipe:
    """The recipe of checked values."""
    values = merge(copy.deepcopy(TRAINING_DEFAULTS), from_file, overrides)
    if isinstance(values.get("resume_from_checkpoint"), bool):
        values["resume_from_checkpoint"] = str(values["resume_from_checkpoint"]).lower()
    values["output_dir"] = values.get("output_dir") or f"runs/{path.stem}"
    ours = [
        options(**{key: values.pop(key) for key in get_type_hints(options) if key in values}) for options in OPTIONS
    ]
    return Recipe(path, path.stem, *ours, training=values, flags=flags)


def read_object(path: Path, kind: str = "recipe") -> dict[str, Any]:
    """The JSON object in the file of a `kind` (recipe or sweep); UserError where it holds none."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{path}: the key {show(name)} is there twice")
        return dict(pairs)

    if path.is_dir():
        raise UserError(f"{path}: this is a folder, not a {kind}; name a JSON file")
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=object_of)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such {kind}") from None
    except OSError as error:
        raise UserError(f"{path}: the {kind} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"{path}: not JSON at line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}: {_why_not_json(error)}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a {kind}: a number is too long or the nesting too deep") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a {kind} is one JSON object, {{…}}; this is {show(values)}")
    return values


def _why_not_json(error: json.JSONDecodeError) -> str:
    """What is wrong there, where it is what people write and JSON doesn't have."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if after.startswith(("//", "/*", "#")):
        return "a comment, which JSON doesn't have; say it in the key about, or leave it out"
    if after.startswith(",") or (before.endswith(",") and after.startswith(("}", "]"))):
        return "a comma after the last value; take it out"
    return error.msg


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers as one recipe. Later ones win, and a new value removes the keys that belonged to the old one."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, other in REPLACES:
            if layer.get(key) is not None and layer[key] != merged.get(key):
                merged.pop(other, None)
        merged |= layer
    return merged
