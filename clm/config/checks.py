"""Values that can't go together, though each of them is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from clm.config.fields import DISTILLATION_WEIGHT, MUON
from clm.config.limits import SCHEDULE_RANGES
from clm.config.training_keys import DEFAULT_OPTIMIZER, NEEDED_SETTINGS, OPTIMIZER_SETTINGS, SCHEDULES
from clm.config.values import allowed as allowed_values
from clm.config.values import fits, parts, read, show


def conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    """The faults of a recipe's values together, a line each; `r` is a resolved recipe whose keys are checked."""
    if r["n_embd"] % r["n_head"]:
        yield f"n_embd {r['n_embd']} is not divisible by n_head {r['n_head']}"
    yield from _data_conflicts(r)
    yield from _best_model_conflicts(r)
    yield from _schedule_conflicts(r)
    yield from _rate_conflicts(r)
    yield from _hub_conflicts(r)
    yield from _teacher_conflicts(r)
    yield from _optimizer_conflicts(r)
    if r["weight_decay_epochs"] is not None and r.get("weight_decay") is not None:
        yield "weight_decay and weight_decay_epochs are both given: leave one out"
    if not r.get("dataloader_num_workers"):
        for key in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
            if r.get(key):
                yield f"{key} needs dataloader_num_workers of 1 or more"


def fragment_conflicts(r: Mapping[str, Any], given: Collection[str]) -> Iterator[str]:
    """The same of a recipe of which only the keys `given` hold: those of the model and the schedule."""
    if {"n_embd", "n_head"} <= set(given) and r["n_embd"] % r["n_head"]:
        yield f"n_embd {r['n_embd']} is not divisible by n_head {r['n_head']}"
    yield from _schedule_conflicts(r)
    if "learning_rate" in given:
        yield from _rate_conflicts(r)


def _data_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    if r["dataset_name"] and r["train_file"]:
        yield "dataset_name and train_file are both given: leave one out (--dataset_name none for one run)"
    if not r["dataset_name"] and not r["train_file"]:
        yield "there is no text to train on: give dataset_name or train_file"
    for key in ("dataset_config_name", "dataset_revision", "streaming"):
        if r[key] and not r["dataset_name"]:
            yield f"{key} is {show(r[key])}, which only dataset_name has a use for: leave it out"
    if r["validation_file"] and r["validation_split_percentage"]:
        yield "validation_file and validation_split_percentage are both given: leave one out"


def _hub_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    for key in ("dataset_name", "hub_model_id"):
        try:
            validate_repo_id(r.get(key) or "none")
        except HFValidationError:
            fault = f"{key} {show(r[key])} is not a name on the Hub (NAME or OWNER/NAME)"
            yield f"{fault}; for local text use train_file" if key == "dataset_name" else fault
    if r["resume_from_checkpoint"] != "hub":
        return
    if not r.get("hub_model_id"):
        yield "resume_from_checkpoint hub needs hub_model_id, the repository that the checkpoints are in"
    if r.get("push_to_hub") and r["hub_strategy"] not in ("checkpoint", "all_checkpoints"):
        yield (
            f"resume_from_checkpoint hub needs hub_strategy checkpoint or all_checkpoints; with "
            f"{r['hub_strategy']} none is ever pushed"
        )


def _optimizer_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    text, kind = r.get("optim_args"), r.get("optim") or DEFAULT_OPTIMIZER
    if not text:
        return
    allowed, pairs = OPTIMIZER_SETTINGS.get(kind), [pair.split("=") for pair in text.replace(" ", "").split(",")]
    if not allowed:
        yield f"optim_args is given, but optim {kind} takes none: leave it out"
        return
    if any(len(pair) != 2 for pair in pairs):
        yield f"optim_args is {show(text)}; it must be name=value pairs with commas between"
        return
    given = {name: read(value, allowed.get(name, str)) for name, value in pairs}
    for name, value in given.items():
        if name not in allowed:
            yield f"optim_args has {show(name)}, but {kind} takes {', '.join(allowed)}"
        elif not fits(value, allowed[name]) or not 0 <= value < math.inf:
            what = {bool: "true or false", int: "a whole number"}.get(allowed[name], "a number of 0 or more")
            yield f"optim_args: {name} is {show(value)}; it must be {what}"
        elif name == "ns_steps" and not 1 <= value < 100:
            yield f"optim_args: ns_steps is {value}; it must be 1 to 99"
        elif (kind, name) == (MUON, "momentum") and value >= 1:
            yield f"optim_args: momentum is {show(value)}; it must be below 1, or no gradient would count"
    if given.get("nesterov") is True and (not given.get("momentum") or given.get("dampening")):
        yield "optim_args: nesterov needs a momentum above 0, and no dampening"


def _teacher_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    if r["distillation_weight"] != DISTILLATION_WEIGHT and not r["teachers"]:
        yield f"distillation_weight is {r['distillation_weight']}, but there are no teachers: name some or leave it out"
    if r["teachers"] and r.get("use_liger_kernel"):
        yield "use_liger_kernel is true, but Liger Kernel's loss knows no teachers: leave one out"


def _best_model_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    if not r["load_best_model_at_end"]:
        if r["early_stopping_patience"]:
            yield "early_stopping_patience needs load_best_model_at_end"
        return
    evaluates, saves = r["eval_strategy"], r["save_strategy"]
    if evaluates == "no" or (saves not in (evaluates, "best")):
        yield (
            f"load_best_model_at_end needs evaluations and saves of one strategy, but eval_strategy is "
            f"{show(evaluates)} and save_strategy {show(saves)}: make them the same, or set load_best_model_at_end "
            "false"
        )
    if r["save_total_limit"] == 1:
        yield "save_total_limit 1 can't keep both the newest and the best (load_best_model_at_end): make it 2"


def _schedule_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    kind, given = r["lr_scheduler_type"], r.get("lr_scheduler_kwargs") or {}
    if kind in ("reduce_lr_on_plateau", "greedy") and r["eval_strategy"] == "no":
        yield f'lr_scheduler_type {kind} follows the validation loss, but eval_strategy is "no"'
    allowed = SCHEDULES[kind]
    for name, value in given.items():
        if name not in allowed:
            names = ", ".join(sorted(allowed))
            yield f"lr_scheduler_kwargs has {show(name)}, but {kind} takes {names or 'nothing'}"
        elif not fits(value, allowed[name]):
            yield f"lr_scheduler_kwargs: {name} is {show(value)}; it must be {allowed_values(allowed[name], name)}"
        elif value is None and type(None) in parts(allowed[name]):
            continue
        elif not SCHEDULE_RANGES[name][0](value):
            yield f"lr_scheduler_kwargs: {name} is {show(value)}; it must be {SCHEDULE_RANGES[name][1]}"
    missing = [name for name in NEEDED_SETTINGS.get(kind, ()) if name not in given]
    if missing:
        yield f"lr_scheduler_type {kind} needs lr_scheduler_kwargs with {', '.join(missing)}"
    if "min_lr_rate" in allowed and sum(given.get(name) is not None for name in ("min_lr", "min_lr_rate")) != 1:
        yield f"lr_scheduler_type {kind} needs lr_scheduler_kwargs with min_lr_rate or min_lr, and not both"


def _rate_conflicts(r: Mapping[str, Any]) -> Iterator[str]:
    """A lowest rate that isn't below the highest: the rate would rise, or transformers refuse it at the first step."""
    for name in ("min_lr", "lr_end"):
        value = (r.get("lr_scheduler_kwargs") or {}).get(name)
        if fits(value, float) and value >= r["learning_rate"]:
            yield f"lr_scheduler_kwargs: {name} is {show(value)}; it must be below learning_rate {r['learning_rate']}"
