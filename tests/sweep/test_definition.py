"""What a sweep's file may say, and what its trials become."""

import pytest

from clm.errors import UserError
from clm.sweep.definition import read
from tests.sweep.made import RATE, make_sweep, write_sweep
from tests.tiny import ROOT


def test_every_trial_has_the_sweeps_tokens_whatever_its_batch(workplace):
    sweep = make_sweep(vary={"per_device_train_batch_size": {"choices": [2, 4, 8]}}, tokens=2304)
    steps = [sweep.recipe({"per_device_train_batch_size": batch}).training["max_steps"] for batch in (2, 4, 8)]
    assert steps == [24, 12, 6]  # x 3 micro-batches x blocks of 16


def test_what_a_trial_sets_wins_over_the_base_and_set_over_that(workplace):
    recipe = make_sweep(set={"eval_steps": 0.5, "n_embd": 32}).recipe({"learning_rate": 0.5}, output_dir="there")
    assert (recipe.model.n_embd, recipe.training["learning_rate"], recipe.training["eval_steps"]) == (32, 0.5, 0.5)
    assert recipe.training["load_best_model_at_end"] is False and recipe.training["output_dir"] == "there"


BAD = {
    "unknown key of the sweep": ({"varry": {}}, "no key", "vary"),
    "unknown recipe key": (
        {"vary": {"learning_rat": {"uniform": [0, 1]}}},
        "learning_rat",
        "did you mean learning_rate?",
    ),
    "unknown recipe key, no space": ({"vary": {"learning_rat": 3}}, "did you mean learning_rate?"),
    "unknown key set": ({"set": {"n_embed": 3}}, "n_embed", "did you mean n_embd?"),
    "no keys": ({"vary": {}}, "vary is {}", "isn't empty"),
    "no vary": ({"vary": None}, "vary is missing"),
    "no budget": ({"trials": None}, "trials or minutes"),
    "no trials": ({"trials": 0}, "trials is 0"),
    "no tokens": ({"tokens": -5}, "tokens is -5"),
    "no base": ({"recipe": "gone.json"}, "gone.json", "no such recipe"),
    "one value": ({"vary": {"n_layer": {"choices": [2, 2]}}}, "two values"),
    "upside down": ({"vary": {"learning_rate": {"uniform": [1, 0.1]}}}, "lower one first"),
    "the log of nothing": ({"vary": {"weight_decay": {"log_uniform": [0, 1]}}}, "above 0"),
    "not whole": ({"vary": {"n_layer": {"integer": [1.5, 3]}}}, "n_layer is 1.5"),
    "out of range": ({"vary": {"learning_rate": {"uniform": [-1, 1]}}}, "learning_rate is -1", "above 0"),
    "step": ({"vary": {"n_embd": {"integer": [16, 64], "step": 20}}}, "step 20"),
    "two kinds": ({"vary": {"n_layer": {"integer": [1, 2], "choices": [1, 2]}}}, "must be"),
    "another text": ({"vary": {"vocab_size": {"integer": [300, 400]}}}, "can't be compared"),
    "its own": ({"vary": {"max_steps": {"integer": [1, 4]}}}, "the sweep's tokens set it"),
    "varied and set": ({"set": {"learning_rate": 0.1}}, "learning_rate is in set and in vary"),
    "set by the sweep": ({"set": {"output_dir": "x"}}, "set has output_dir, but"),
    "base and set at odds": ({"set": {"n_embd": 15}}, "n_embd 15"),
    "not prune": ({"prune": "yes"}, "prune is", "true or false"),
}


@pytest.mark.parametrize(("changes", "says"), [(bad[0], bad[1:]) for bad in BAD.values()], ids=list(BAD))
def test_a_sweep_that_is_at_fault_gets_one_line(workplace, changes, says):
    path = write_sweep(**changes)
    with pytest.raises(UserError) as error:
        read(path)
    assert [part for part in says if part not in str(error.value)] == [], error.value
    assert "\n" not in str(error.value)


def test_a_sweep_that_is_not_there(workplace, tmp_path):
    with pytest.raises(UserError, match=r"gone.json: there is no such sweep"):
        read(tmp_path / "gone.json")


def test_the_base_recipes_own_values_are_a_trial_only_within_the_space(workplace):
    inside = RATE | {"n_embd": {"integer": [8, 32], "step": 8}, "optim": {"choices": ["adamw_torch", None]}}
    assert make_sweep(vary={**inside, "optim": {"choices": ["muon", "adamw_torch"]}}).start() is None
    assert make_sweep(vary=RATE | {"n_embd": {"integer": [8, 32], "step": 8}}).start() == {
        "learning_rate": 0.01,
        "n_embd": 16,
    }
    assert make_sweep(vary={"n_embd": {"integer": [12, 36], "step": 12}}).start() is None


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "sweeps").glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_sweep_can_be_read(monkeypatch, path):
    monkeypatch.chdir(ROOT)
    sweep = read(path)
    assert (sweep.start() is None) == (path.stem == "members")  # of which each has an order of its own
    assert sweep.recipe(sweep.start() or {"data_seed": 1}).training["max_steps"] > 1
