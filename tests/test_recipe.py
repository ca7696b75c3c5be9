"""Recipes: what is taken, what is refused and in which words, and which source wins."""

import inspect
import json
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest
from transformers import TrainingArguments
from transformers.activations import ACT2FN
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from clm.config import command_line
from clm.config.command_line import parse
from clm.config.fields import REFUSED, TRAINING_DEFAULTS
from clm.config.keys import KEYS
from clm.config.limits import CHOICES, RANGES, SCHEDULE_RANGES
from clm.config.recipe import load
from clm.config.training_keys import NEEDED_SETTINGS, PER_DEVICE_TRAIN_BATCH_SIZE, SCHEDULES, TRAINING
from clm.config.values import parts
from clm.errors import UserError
from clm.launch.start import training_arguments

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").glob("*.json"))
BASE = {"dataset_name": "python-docs"}


@pytest.fixture
def recipe_file(tmp_path):
    def write(content):
        path = tmp_path / "case.json"
        text = content if isinstance(content, str) else json.dumps(BASE | content)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def message(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


BAD_VALUES = [
    # content of the file, fragments of the one line
    ({"n_embed": 768}, ["n_embed", "did you mean n_embd"]),
    ({"_comment": "x"}, ["_comment"]),
    ({"a\nb": 1}, ["no key is called"]),
    ({"evaluation_strategy": "steps"}, ["eval_strategy"]),
    ({"warmup_ratio": 0.1}, ["warmup_steps", "share"]),
    ({"overwrite_output_dir": True}, ["output_dir"]),
    ({"n_positions": 512}, ["block_size"]),
    ({"hub_token": "secret"}, ["hf auth login"]),
    ({"fsdp": "full_shard"}, ["accelerate file"]),
    ({"fp16": True}, ["bf16"]),
    ({"dry_run": True}, ["command line", "--dry_run"]),
    ({"config": "x.json"}, ["--config"]),
    ({"learning_rate": "6e-4"}, ["learning_rate", '"6e-4"', "drop the quotes"]),
    ({"n_layer": 2.0}, ["n_layer is 2.0", "whole number"]),
    ({"n_layer": True}, ["n_layer is true"]),
    ({"bf16": 1}, ["bf16 is 1", "true or false"]),
    ({"bf16": "false"}, ["bf16", "drop the quotes"]),
    ({"lr_scheduler_type": "cosin"}, ["lr_scheduler_type", "cosine_with_min_lr", "warmup_stable_decay"]),
    ({"optim": "galore_adamw"}, ["optim", "adamw_torch_fused"]),
    ({"gradient_checkpointing": True}, ["its name is activation_checkpointing"]),
    ({"ddp_static_graph": True}, ["ddp_static_graph is not taken"]),
    ({"optim_args": "momentum=0.9"}, ["optim adamw_torch_fused takes none"]),
    ({"optim": "sgd", "optim_args": "momentum"}, ["name=value pairs"]),
    ({"optim": "sgd", "optim_args": "alpha=1"}, ['"alpha"', "sgd takes momentum, dampening, nesterov"]),
    ({"optim": "sgd", "optim_args": "momentum=x"}, ['momentum is "x"', "a number of 0 or more"]),
    ({"optim": "sgd", "optim_args": "nesterov=true"}, ["nesterov needs a momentum"]),
    ({"optim": "rmsprop", "optim_args": "alpha=0.9,centered=2"}, ['centered is "2"', "true or false"]),
    (
        {"optim": "muon", "optim_args": "nesterov=true"},
        ['"nesterov"', "muon takes momentum, ns_steps, embeddings, positions, "],
    ),
    ({"optim": "muon", "optim_args": "momentum=1"}, ["momentum is 1", "below 1"]),
    ({"sampling": "random"}, ["blocks", "windows"]),
    ({"report_to": ["tensorboard", "tensorbord"]}, ["tensorbord", "wandb"]),
    ({"report_to": None}, ["report_to is null", "none"]),
    ({"prompts": "once"}, ["prompts", "list"]),
    ({"block_size": 0}, ["block_size is 0", "2 or more"]),
    ({"block_size": 1}, ["block_size is 1"]),
    ({"vocab_size": 256}, ["vocab_size is 256", "257"]),
    ({"n_head": 0}, ["n_head is 0"]),
    ({"n_embd": 770}, ["770", "n_head 12"]),
    ({"resid_pdrop": 1.0}, ["resid_pdrop", "below 1"]),
    ({"reorder_and_upcast_attn": True}, ["reorder_and_upcast_attn"]),
    ({"learning_rate": 0}, ["learning_rate is 0", "above 0"]),
    ({"weight_decay": -0.1}, ["weight_decay"]),
    ({"adam_beta2": 1}, ["adam_beta2"]),
    ({"warmup_steps": -1}, ["warmup_steps"]),
    ({"per_device_train_batch_size": 0}, ["per_device_train_batch_size"]),
    ({"max_steps": 0}, ["max_steps is 0", "-1"]),
    ({"num_train_epochs": 0}, ["num_train_epochs"]),
    ({"eval_steps": 0}, ["eval_steps"]),
    ({"logging_steps": 1.5}, ["logging_steps", "whole"]),
    ({"seed": -1}, ["seed"]),
    ({"seed": 2**32}, ["seed"]),
    ({"max_steps": 10**30}, ["max_steps"]),
    ({"validation_split_percentage": 0}, ["validation_split_percentage is 0", "above 0 and below 100"]),
    ({"validation_split_percentage": 100}, ["validation_split_percentage"]),
    ({"document_separator": ""}, ["document_separator", "isn't empty"]),
    ({"output_dir": ""}, ["output_dir", "isn't empty"]),
    ({"cache_dir": "a\u0000b"}, ["cache_dir"]),
    ({"train_file": []}, ["train_file"]),
    ({"run_name": "../x"}, ["run_name", ".."]),
    ({"dataset_config_name": "/etc"}, ["dataset_config_name"]),
    ({"hub_model_id": "me/../you"}, ["hub_model_id"]),
    ({"hub_strategy": "always"}, ["hub_strategy", "every_save", "all_checkpoints"]),
    ({"resume_from_checkpoint": "hub"}, ["resume_from_checkpoint hub needs hub_model_id"]),
    (
        {"resume_from_checkpoint": "hub", "hub_model_id": "me/you", "push_to_hub": True},
        ["needs hub_strategy checkpoint or all_checkpoints; with end none is ever pushed"],
    ),
    ({"hub_model_id": "a/b/c"}, ["hub_model_id", "OWNER/NAME"]),
    ({"dataset_name": "./my_text"}, ["dataset_name", "train_file"]),
    ({"dataset_name": None}, ["dataset_name or train_file"]),
    ({"train_file": "a.txt"}, ["dataset_name and train_file"]),
    (
        {"dataset_name": None, "train_file": "a.txt", "validation_file": "b.txt", "streaming": True},
        ["streaming"],
    ),
    ({"validation_file": "b", "validation_split_percentage": 5}, ["validation_file and validation_split"]),
    ({"load_best_model_at_end": False, "early_stopping_patience": 2}, ["load_best_model_at_end"]),
    ({"save_total_limit": 1}, ["save_total_limit 1"]),
    ({"eval_strategy": "no"}, ["eval_strategy", "load_best_model_at_end"]),
    ({"lr_scheduler_kwargs": {"min_lr": 1e-5, "min_lr_rate": 0.1}}, ["not both"]),
    ({"lr_scheduler_kwargs": {"min_rate": 0.1}}, ["min_rate", "min_lr_rate"]),
    ({"lr_scheduler_kwargs": {"min_lr_rate": "0.1"}}, ["min_lr_rate", "number"]),
    ({"lr_scheduler_kwargs": {"min_lr_rate": 2}}, ["min_lr_rate is 2", "from 0 to 1"]),
    ({"learning_rate": 1e-3, "lr_scheduler_kwargs": {"min_lr": 1e-2}}, ["min_lr is 0.01", "below learning_rate 0.001"]),
    ({"lr_scheduler_type": "warmup_stable_decay"}, ["num_decay_steps"]),
    (
        {
            "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": {"num_decay_steps": 9, "decay_type": "exp"},
        },
        ["decay_type", "linear, cosine or 1-sqrt"],
    ),
    ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": "x"}}, ["lr_end", "number of 0 or more"]),
    ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": None}}, ["power is null", "number above 0"]),
    ({"lr_scheduler_type": "inverse_sqrt", "lr_scheduler_kwargs": {"timescale": 0}}, ["timescale is 0", "1 or more"]),
    ({"activation_checkpointing_kwargs": {"reentrant": True}}, ["use_reentrant"]),
    ({"activation_checkpointing_kwargs": {"use_reentrant": "no"}}, ['"use_reentrant": true or false']),
    ({"dataloader_prefetch_factor": 2}, ["dataloader_num_workers"]),
    # files that aren't a recipe
    ('{"n_layer": 2,\n "n_head" 2}', ["line 2, column 11"]),
    ('{"n_layer": 2, "n_layer": 3}', ['"n_layer"', "twice"]),
    ('{"lr_scheduler_kwargs": {"min_lr": 1, "min_lr": 2}}', ['"min_lr"', "twice"]),
    ("[1, 2]", ["object"]),
    ("", ["line 1, column 1"]),
    ("[" * 100_000, ["deep"]),
    ('{"n_layer": ' + "9" * 5000 + "}", ["too long"]),
    ('{"learning_rate": NaN}', ["learning_rate is NaN"]),
    ('{"learning_rate": 1e999}', ["learning_rate is Infinity"]),
    ('{"lr_scheduler_kwargs": {"min_lr_rate": -Infinity}}', ["lr_scheduler_kwargs"]),
    ('{"run_name": "\\ud800"}', ["run_name"]),
]


@pytest.mark.parametrize(("content", "fragments"), BAD_VALUES, ids=lambda v: str(v)[:60])
def test_a_bad_recipe_is_refused_in_one_line(recipe_file, content, fragments):
    path = recipe_file(content)
    text = message(load, path)
    assert text.startswith(f"{path}: ")
    for fragment in fragments:
        assert fragment in text


BAD_ARGV = [
    (["--learning_rat", "1"], ["did you mean learning_rate"]),
    (["--learning_rate", "fast"], ["learning_rate", '"fast"']),
    (["--learning_rate", "nan"], ["learning_rate is NaN"]),
    (["--n_layer", "2.5"], ["n_layer", "whole number"]),
    (["--n_layer"], ["--n_layer needs a value"]),
    (["--bf16", "maybe"], ["bf16", "true or false"]),
    (["--dry_run", "maybe"], ["dry_run", "true or false"]),
    (["--seed", "1", "--seed=1"], ["--seed is given twice"]),
    (["extra.json"], ['"extra.json"', "--config"]),
    (["--seed", "1", "2"], ['"2"']),
    (["-seed", "1"], ['"-seed"']),
    (["--output_dir="], ["output_dir"]),
    (["--n_layer", "none"], ["n_layer"]),
    (["--lr_scheduler_kwargs", "{min_lr"], ["lr_scheduler_kwargs", "object"]),
    (["--hub_token", "x"], ["HF_TOKEN"]),
    (["--"], ["no key is called"]),
]


@pytest.mark.parametrize(("argv", "fragments"), BAD_ARGV, ids=lambda v: " ".join(v)[:60])
def test_a_bad_command_line_is_refused_in_one_line(recipe_file, argv, fragments):
    text = message(parse, ["--config", str(recipe_file({})), *argv])
    assert text.startswith("command line: ")
    for fragment in fragments:
        assert fragment in text


def test_a_recipe_that_cannot_be_read_is_named(tmp_path):
    assert "--config" in message(parse, [])
    assert "--config" in message(parse, ["--config"])
    assert "no such recipe" in message(load, tmp_path / "none.json")
    assert "folder" in message(load, tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"run_name": "\xe9"}')
    assert "byte 14" in message(load, tmp_path / "latin.json")


@pytest.mark.parametrize("key", sorted(KEYS))
def test_no_value_of_any_type_crashes(recipe_file, key):
    values = [
        None,
        True,
        0,
        -1,
        1.5,
        10**400,
        "",
        "x",
        "1",
        [],
        [1],
        [None],
        ["x"],
        {},
        {"x": [{}]},
        float("nan"),
    ]
    accepted = 0
    for value in values:
        path = recipe_file({key: value})
        try:
            assert load(path, {}).resolved()
            accepted += 1
        except UserError as error:
            assert str(path) in str(error)
        try:
            parse(["--config", str(recipe_file({})), f"--{key}={json.dumps(value)}"])
        except UserError as error:
            assert "\n" not in str(error)
    assert accepted < len(values)


def test_command_line_beats_recipe_beats_default(recipe_file):
    path = recipe_file({"n_layer": 3, "learning_rate": 1, "n_head": 4})
    recipe = parse(["--config", str(path), "--n_layer=5", "--weight_decay", "0"])
    assert (recipe.model.n_layer, recipe.model.n_head, recipe.model.n_embd) == (5, 4, 768)
    assert (recipe.training["learning_rate"], recipe.training["weight_decay"]) == (1, 0)
    assert recipe.training["adam_beta2"] == TRAINING_DEFAULTS["adam_beta2"]
    assert (recipe.name, recipe.training["output_dir"]) == ("case", "runs/case")


def test_command_line_text_takes_the_type_of_its_key(recipe_file):
    words = [
        *[
            "--max_steps",
            "-1",
            "--learning_rate",
            "1e-3",
            "--bf16=False",
            "--eval_on_start",
            "--report_to",
            "none",
        ],
        *["--validation_split_percentage", "5", "--n_inner", "null", "--document_separator=--", "--dry_run"],
        *[
            "--prompts",
            '["a", "b"]',
            "--validation_file",
            "none",
            "--lr_scheduler_kwargs",
            '{"min_lr": 1e-5}',
        ],
        *["--resume_from_checkpoint", "False", "--run_name", "7"],
    ]
    recipe = parse(["--config", str(recipe_file({"n_inner": 8})), *words])
    training = recipe.training
    assert (training["max_steps"], training["learning_rate"], training["bf16"]) == (-1, 1e-3, False)
    assert training["eval_on_start"] is True
    assert (training["report_to"], training["run_name"]) == ("none", "7")
    assert training["lr_scheduler_kwargs"] == {"min_lr": 1e-5}
    assert (recipe.model.n_inner, recipe.data.document_separator) == (None, "--")
    assert (recipe.data.validation_split_percentage, recipe.data.validation_file) == (5, None)
    assert recipe.run.prompts == ["a", "b"]
    assert recipe.run.resume_from_checkpoint == "false"
    assert recipe.flags.dry_run and not recipe.flags.verify_data


def test_files_are_one_text_or_a_list(recipe_file):
    files = {"dataset_name": None, "validation_split_percentage": 5}
    argv = ["--config", str(recipe_file(files)), "--train_file"]
    assert parse([*argv, "[ab].txt"]).data.train_file == "[ab].txt"
    assert parse([*argv, '["a", "b"]']).data.train_file == ["a", "b"]


def test_a_schedule_takes_its_own_settings_only(recipe_file):
    assert "lr_scheduler_kwargs" not in load(recipe_file({"lr_scheduler_type": "constant"})).training
    path = recipe_file({"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 9}})
    assert load(path).training["lr_scheduler_kwargs"] == {"num_decay_steps": 9}
    assert "lr_scheduler_kwargs" not in load(path, {"lr_scheduler_type": "linear"}).training
    assert load(recipe_file({})).training["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}


def test_a_lowest_rate_is_held_against_a_rate_that_is_known():
    lowest = ["--lr_scheduler_kwargs", '{"min_lr": 0.01}']
    assert command_line.fragment(lowest)[0].training["lr_scheduler_kwargs"] == {"min_lr": 0.01}
    assert "below learning_rate 0.001" in message(command_line.fragment, ["--learning_rate", "0.001", *lowest])


def test_accumulation_follows_from_the_global_batch(recipe_file):
    both = {"per_device_train_batch_size": 4, "global_batch_size": 32, "gradient_accumulation_steps": 8}
    agreeing = load(recipe_file(both))
    assert agreeing.accumulation(1) == 8  # 32 / (4 x 1)
    assert "makes gradient_accumulation_steps 4, not 8" in message(agreeing.accumulation, 2)
    only_global = load(recipe_file({"per_device_train_batch_size": 4, "global_batch_size": 32}))
    assert "gradient_accumulation_steps" not in only_global.training
    assert [only_global.accumulation(n) for n in (1, 2, 4, 8)] == [8, 4, 2, 1]
    assert "not a multiple" in message(only_global.accumulation, 3)
    # 32 over 16 processes are 2 each: micro-batches of 4 become 2.
    assert (only_global.micro_batch(8), only_global.micro_batch(16), only_global.accumulation(16)) == (4, 2, 1)
    assert load(recipe_file({})).accumulation(7) == 1


def test_a_step_has_the_sequences_of_all_processes(recipe_file):
    plain = load(recipe_file({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}))
    assert (plain.micro_batch(), plain.sequences_per_step(1), plain.sequences_per_step(2)) == (4, 12, 24)
    whole = load(recipe_file({"global_batch_size": 32}))
    assert whole.sequences_per_step(1) == whole.sequences_per_step(4) == 32
    assert "not a multiple" in message(whole.sequences_per_step, 3)


def test_one_of_the_two_batch_keys_replaces_the_other_of_the_recipe(recipe_file):
    path = recipe_file({"gradient_accumulation_steps": 8})
    recipe = load(path, {"global_batch_size": 16})
    assert "gradient_accumulation_steps" not in recipe.resolved()
    assert recipe.accumulation(1) == 4  # micro-batches of 4 x 1,024 tokens
    recipe = load(recipe_file({"global_batch_size": 16}), {"gradient_accumulation_steps": 5})
    assert recipe.resolved()["global_batch_size"] is None
    assert recipe.accumulation(3) == 5


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_recipe_is_valid_and_resolves_to_itself(path, tmp_path):
    recipe = load(path)
    saved = tmp_path / "recipe.json"
    saved.write_text(json.dumps(recipe.resolved()), encoding="utf-8")
    assert load(saved) == recipe
    assert load(saved).resolved() == recipe.resolved()
    arguments = recipe.training | {"use_cpu": True, "output_dir": str(tmp_path)}
    assert training_arguments(arguments).learning_rate == recipe.training["learning_rate"]


@pytest.mark.parametrize(
    ("name", "sequences"), [("quickstart", 16), ("own-text", 32), ("wt103-seed", 32), ("wt103", 128)]
)
def test_a_shipped_recipes_step_is_the_same_on_any_number_of_gpus(name, sequences):
    path = next(path for path in SHIPPED if path.stem == name)
    recipe = load(path)
    for processes in (1, 2, 4, 8):
        assert recipe.micro_batch(processes) * recipe.accumulation(processes) * processes == sequences
        assert recipe.sequences_per_step(processes) == sequences


def test_the_micro_batch_is_open_where_only_the_batch_of_a_step_is_set(recipe_file):
    only_global = load(recipe_file({"global_batch_size": 24, "block_size": 512}))
    assert only_global.is_micro_batch_open
    # 4,096 tokens are 8 blocks of 512; over 2 processes 12 sequences each, whose largest part below 8 is 6.
    assert [only_global.micro_batch(n) for n in (1, 2, 3)] == [8, 6, 8]
    assert only_global.accumulation(1, micro_batch=2) == 12
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        assert not load(recipe_file({"global_batch_size": 24, key: 3})).is_micro_batch_open
    stock = load(recipe_file({}))
    assert not stock.is_micro_batch_open and stock.micro_batch(3) == 8


@pytest.mark.parametrize(("name", "before"), [("own-text", 8), ("wt103", 4), ("wt103-seed", 4)])
def test_the_shipped_recipes_leave_it_open_and_a_cpu_takes_what_it_took(name, before):
    recipe = load(next(path for path in SHIPPED if path.stem == name))
    assert recipe.is_micro_batch_open and recipe.micro_batch() == before


def test_the_shipped_sweeps_take_the_batch_that_their_results_were_made_with():
    for path in (SHIPPED[0].parent / "sweeps").glob("*.json"):
        fixed = json.loads(path.read_text("utf-8"))["set"]
        recipe = load(SHIPPED[0].parent / "quickstart.json", fixed)
        assert recipe.training["per_device_train_batch_size"] * recipe.accumulation(1) == 8


def test_overrides_are_in_what_is_saved(recipe_file, tmp_path):
    recipe = load(recipe_file({"optim": "sgd", "optim_args": "momentum=0.9"}), {"optim": "adamw_torch", "n_layer": 1})
    saved = recipe_file(json.dumps(recipe.resolved()))
    assert load(saved) == recipe
    assert load(saved).model.n_layer == 1
    assert "optim_args" not in load(saved).training
    assert not REFUSED.keys() & recipe.resolved().keys()
    assert recipe.training["remove_unused_columns"] is False


def test_every_shipped_recipe_is_in_their_table():
    page = (SHIPPED[0].parent / "README.md").read_text("utf-8")
    assert SHIPPED and [path.name for path in SHIPPED if f"]({path.name})" not in page] == []


def test_the_tables_name_keys_and_values_that_exist():
    stock = {f.name for f in fields(TrainingArguments)}
    assert {*CHOICES, *RANGES} <= KEYS.keys()
    assert TRAINING_DEFAULTS.keys() <= stock
    assert not KEYS.keys() & REFUSED.keys()
    assert stock <= KEYS.keys() | REFUSED.keys()
    assert set(CHOICES["activation_function"]) <= set(ACT2FN)
    assert set(CHOICES["report_to"]) - {"none", "all"} <= set(INTEGRATION_TO_CALLBACK)


# Where TrainingArguments' own annotation allows too much or too little.
OTHERWISE = {
    "optim": str,  # muon, too
    "report_to": str | list[str],
    "eval_steps": float,
    "include_num_input_tokens_seen": str,
}


def as_we_write_it(hint):
    """A type of transformers without the `str` beside an object or an enum, and an enum as the text that it is."""
    kinds = [get_origin(part) or part for part in parts(hint)]
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    if enums:
        return {str}, tuple(member.value for member in enums[0])
    return {part for part in parts(hint) if not (dict in kinds and part is str)}, None


def test_the_training_keys_are_those_of_the_installed_transformers():
    hints = get_type_hints(TrainingArguments)
    taken = [f.name for f in fields(TrainingArguments) if f.name not in REFUSED and f.name in TRAINING]
    assert taken == list(TRAINING)  # in its order, too
    for key, hint in TRAINING.items():
        theirs, choices = as_we_write_it(OTHERWISE.get(key, hints[key]))
        assert set(parts(hint)) == theirs, key
        assert choices in (None, CHOICES.get(key)), key
    assert TrainingArguments.per_device_train_batch_size == PER_DEVICE_TRAIN_BATCH_SIZE


def test_the_settings_of_schedules_are_those_of_the_installed_transformers():
    filled = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
    theirs, needed = {}, {}
    for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        hints, settings = get_type_hints(function), inspect.signature(function).parameters
        free = {name: p for name, p in settings.items() if name not in filled and p.kind is not p.VAR_KEYWORD}
        theirs[kind.value] = {name: hints.get(name, Any) for name in free}
        if without := tuple(name for name, p in free.items() if p.default is p.empty):
            needed[kind.value] = without
    assert theirs == SCHEDULES
    assert set(SCHEDULE_RANGES) == {name for settings in theirs.values() for name in settings}
    assert needed == NEEDED_SETTINGS


def test_help_names_every_key_and_leaves_with_0(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(key in shown for key in KEYS)


def test_a_fault_of_values_together_names_the_words_typed_as_they_were_typed(recipe_file):
    path = recipe_file({"n_head": 12, "n_embd": 768})
    said = message(parse, ["--config", str(path), "--n_embd", "100", "--learning_rate", "3e-4"])
    assert said == f"{path} with --n_embd 100: n_embd 100 is not divisible by n_head 12"
    said = message(parse(["--config", str(path), "--global_batch_size", "5"]).accumulation, 2)
    assert said.startswith(f"{path} with --global_batch_size 5: global_batch_size 5 is not a multiple of ")
    path = recipe_file({"n_head": 12, "n_embd": 100})
    assert message(load, path).startswith(f"{path}: n_embd 100")
    assert message(parse, ["--config", str(path), "--max_steps", "5"]).startswith(f"{path}: n_embd 100")


def test_a_value_that_was_typed_is_shown_as_it_was_typed(recipe_file):
    path = recipe_file({})
    said = message(parse, ["--config", str(path), "--save_steps", "0"])
    assert said.startswith("command line: --save_steps is 0; it must be a whole number of steps")
    assert parse(["--config", str(path), "--save_steps", "10"]).training["save_steps"] == 10
    assert type(parse(["--config", str(path), "--save_steps", "10"]).training["save_steps"]) is int


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{\n  "n_layer": 2,  // two\n  "n_head": 2\n}\n', "not JSON at line 2, column 18: a comment"),
        ('# mine\n{"n_layer": 2}\n', "not JSON at line 1, column 1: a comment"),
        ('{"n_layer": 2 /* two */}\n', "not JSON at line 1, column 15: a comment"),
        ('{\n  "n_layer": 2,\n}\n', ": a comma after the last value; take it out"),
        ('{"prompts": ["a",]}', ": a comma after the last value; take it out"),
        ('{"n_layer": 2 "n_head": 2}', "not JSON at line 1, column 15: Expecting"),
    ],
)
def test_what_json_does_not_have_is_named(recipe_file, text, says):
    assert says in message(load, recipe_file(text))
