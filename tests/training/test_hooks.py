"""The table of overridden hooks against the classes here, and against the installed transformers."""

import ast
import hashlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from transformers import Trainer

import clm
from clm.training.hooks import ATTRIBUTES, HOOKS
from clm.training.trainer import ClmTrainer

OURS = ClmTrainer.__mro__[: ClmTrainer.__mro__.index(Trainer)]

# Of transformers 5.23.0: what `fingerprint` says of each method that is overridden here. When one differs, read what
# changed in it, see whether the override still does what hooks.py says, and only then put the new one here.
FINGERPRINTS = {
    "train": "a397f9307cf5",
    "get_train_dataloader": "a09fde1354f9",
    "num_examples": "243486ec46a9",
    "create_optimizer": "ad6a0cc73a5d",
    "create_scheduler": "afee8deef7cf",
    "get_batch_samples": "e93c4ddf6f19",
    "training_step": "531cbfc8cdcb",
    "floating_point_ops": "88f033665c1c",
    "evaluate": "7e052138eb6c",
    "log": "19ca70396260",
    "_run_epoch": "6862c2ef5d80",
    "_prepare_input": "df5068ccd0b5",
    "_get_num_items_in_batch": "3160658bcf64",
    "_get_grad_norm": "cbc9e848e5ca",
    "_maybe_log_save_evaluate": "e964c2acd770",
    "_save_checkpoint": "5d2ad2e0f2e5",
    "_finalize_training": "b6e2453f100e",
    "_load_callback_state": "ed446d507ca3",
    "_load_best_model": "78d65b352536",
    "_load_from_checkpoint": "c2e6a7e78c3d",
    "_load_optimizer_and_scheduler": "c8e448234654",
    "_load_scaler": "c6f233ec8328",
    "_issue_warnings_after_load": "031eb6caa72c",
}


def fingerprint(method) -> str:
    """Of a method's code: its docstring, comments and blank lines don't count."""
    lines = textwrap.dedent(inspect.getsource(method)).splitlines()
    body = ast.parse("\n".join(lines)).body[0].body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        lines[body[0].lineno - 1 : body[0].end_lineno] = []
    code = [line.rstrip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:12]


def overridden() -> list[tuple[str, str]]:
    """(hook, class) of everything here that hides a method of the stock Trainer."""
    return [
        (name, owner.__name__)
        for owner in OURS
        for name in vars(owner)
        if hasattr(Trainer, name) and not (name.startswith("__") and name.endswith("__"))
    ]


def test_every_overridden_method_is_listed_and_every_listed_one_is_overridden_once():
    names = [name for name, _ in overridden()]
    assert set(names) - set(HOOKS) == set(), "overridden, but not in clm/training/hooks.py"
    assert set(HOOKS) - set(names) == set(), "in clm/training/hooks.py, but nothing overrides it"
    assert {name for name in names if names.count(name) > 1} == set(), "overridden in two classes"


@pytest.mark.parametrize("name", HOOKS)
def test_the_installed_transformers_has_the_hook_as_it_was(name):
    assert hasattr(Trainer, name), f"transformers' Trainer has no {name} any more"
    assert fingerprint(getattr(Trainer, name)) == FINGERPRINTS[name], f"transformers changed Trainer.{name}"


@pytest.mark.parametrize(("name", "caller"), [(name, hook.called_by) for name, hook in HOOKS.items() if hook.called_by])
def test_the_installed_transformers_still_calls_the_hook(name, caller):
    assert f"self.{name}(" in inspect.getsource(getattr(Trainer, caller)), f"Trainer.{caller} doesn't call {name}"


@pytest.mark.parametrize("name", [name for name in HOOKS if name not in ("_run_epoch", "get_batch_samples")])
def test_an_override_can_be_called_as_the_stock_method_is(name):
    stock = inspect.signature(getattr(Trainer, name)).parameters
    arguments = {key: None for key, value in stock.items() if value.kind is value.POSITIONAL_OR_KEYWORD}
    ours = inspect.signature(getattr(ClmTrainer, name))
    ours.bind(*arguments.values())  # TypeError: it can't


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_installed_transformers_still_has_the_attribute(name):
    assert f"self.{name}" in inspect.getsource(Trainer), f"transformers' Trainer has no {name} any more"


def test_no_other_undocumented_part_of_the_trainer_is_used():
    stock = set(re.findall(r"self\.(_[a-z]\w*)", inspect.getsource(Trainer)))
    for owner in OURS:
        used = set(re.findall(r"self\.(_[a-z]\w*)", inspect.getsource(owner)))
        assert used & stock - set(HOOKS) - set(ATTRIBUTES) == set(), owner.__name__


def test_no_mock_runs_outside_the_tests():
    sources = Path(clm.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "unittest" in path.read_text("utf-8")] == []
