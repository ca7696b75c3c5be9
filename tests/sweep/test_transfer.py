"""What values become in a larger recipe, by hand."""

import json
from pathlib import Path

import pytest

from clm.config.recipe import load
from clm.errors import UserError
from clm.sweep import transfer
from clm.sweep.findings import find
from clm.sweep.study import Study
from tests.sweep.made import make_sweep, outcome, run_through
from tests.tiny import write_recipe


@pytest.fixture
def target(workplace):
    """8 times as wide, 4 times the batch (3 x 16 sequences of 16), 100 steps."""
    write_recipe("large.json", n_embd=128, n_head=4, per_device_train_batch_size=16, max_steps=100, output_dir=None)
    return load("large.json")


def changed(values: dict, target, **more) -> dict:
    write_recipe("small.json", **{**more, **values})
    return {change.key: change for change in transfer.changes(load("small.json"), target, values)}


def test_adamw_takes_the_rate_by_the_width_and_the_square_root_of_the_batch(target):
    change = changed({"learning_rate": 0.016}, target)["learning_rate"]
    assert change.after == pytest.approx(0.016 / 8 * 2)
    assert "2203.03466" in change.reason and "2205.10287" in change.reason


def test_more_layers_take_the_rate_by_the_square_root_of_their_number(workplace):
    write_recipe("deep.json", n_layer=8, max_steps=100)
    change = changed({"learning_rate": 0.016}, load("deep.json"))["learning_rate"]
    assert change.after == pytest.approx(0.016 / 2)
    assert "layers" in change.reason and "wide" not in change.reason and "a step" not in change.reason


def test_muon_takes_it_as_adamw_does(target):
    write_recipe("large.json", n_embd=64, n_head=4, max_steps=100, optim="muon")
    change = changed({"learning_rate": 0.016}, load("large.json"), optim="muon")["learning_rate"]
    assert change.after == pytest.approx(0.016 / 4)
    assert "2502.16982" in change.reason


def test_weight_decay_keeps_the_share_of_the_run_that_weights_remember(target):
    both = changed({"learning_rate": 0.016, "weight_decay": 0.5}, target)
    assert both["weight_decay"].after == pytest.approx(0.5 * 0.016 * 6 / (0.004 * 100))


def test_weight_decay_replaces_the_targets_epochs_and_epochs_are_carried_as_they_are(workplace):
    write_recipe("large.json", n_embd=128, n_head=4, max_steps=100, weight_decay_epochs=4.0)
    change = changed({"weight_decay": 0.5}, load("large.json"))["weight_decay"]
    assert (change.before, change.after) == (None, pytest.approx(0.5 * 6 / 100))
    assert changed({"weight_decay_epochs": 2.0}, load("large.json"))["weight_decay_epochs"].after == 2.0


def test_the_batch_goes_as_the_square_root_of_the_tokens(target):
    # 6 steps of 12 x 16 tokens; 100 of 48 x 16 are 66.7 times as many: 8.16 times the batch, 98 sequences, 96 = 6 x 16.
    both = changed({"per_device_train_batch_size": 4, "learning_rate": 0.016}, target)
    assert both["global_batch_size"].after == 96
    assert both["per_device_train_batch_size"].after is None
    assert both["learning_rate"].after == pytest.approx(0.016 / 8 * 8**0.5, rel=1e-3)


def test_shape_and_dropout_stay_and_what_has_no_size_is_carried(target):
    values = {"n_layer": 1, "resid_pdrop": 0.3, "adam_beta2": 0.9, "warmup_steps": 0.3}
    after = {key: change.after for key, change in changed(values, target).items()}
    assert after == {"n_layer": None, "resid_pdrop": None, "adam_beta2": 0.9, "warmup_steps": 0.3}


def test_rates_of_one_optimizer_say_nothing_of_another(target):
    with pytest.raises(UserError, match=r"large.json: its optim is adamw_torch_fused, the sweep's muon"):
        changed({"learning_rate": 0.016}, target, optim="muon")


def test_the_scaled_recipe_is_one_and_says_where_it_is_from(target):
    sweep = make_sweep(trials=1)
    study = Study(sweep)
    run_through(study, lambda one: outcome(3.0))
    path, made = transfer.write(sweep, find(sweep, study.trials), target)
    assert path == Path("sweep/large-scaled.json")
    raw = json.loads(path.read_text())
    assert raw["learning_rate"] == load(path).training["learning_rate"] == 0.01 / 8 * 2 and raw["n_embd"] == 128
    assert "sweep.json" in raw["about"] and "not tried" in raw["about"]
    assert "learning_rate: 0.01 -> 0.0025" in transfer.transfer_page(path, made)
