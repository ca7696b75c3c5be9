"""weight_decay_epochs: how many epochs the weights remember, whatever the text's length, the batch and the rate."""

import json
from pathlib import Path

import pytest
import torch

from clm.config.recipe import load
from clm.explain.setup import of_recipe, of_run
from clm.runs.record import read_run
from clm.training.schedule import weight_decay
from tests.test_bad_input import refuses  # noqa: F401 (a fixture)
from tests.tiny import cut_off, run, write_recipe

MUON = {"optim": "muon", "num_train_epochs": 3, "max_steps": None}


def recipe(**changes: object):
    return load(write_recipe(**changes))


def test_it_is_one_over_rate_and_steps_that_are_remembered(workplace):
    assert weight_decay(recipe(weight_decay_epochs=4.0), 150) == pytest.approx(1 / (1e-2 * 4 * 150))
    assert weight_decay(recipe(weight_decay_epochs=0.5, learning_rate=2e-3), 250) == pytest.approx(1 / (2e-3 * 125))
    assert weight_decay(recipe(weight_decay=0.3), 150) == 0.3
    assert weight_decay(recipe(), 150) == 0.1  # the default


def test_no_fewer_than_sixty_steps_are_remembered(workplace):
    assert weight_decay(recipe(weight_decay_epochs=4.0), 15) == weight_decay(recipe(weight_decay_epochs=4.0), 3)
    assert weight_decay(recipe(weight_decay_epochs=4.0), 3) == pytest.approx(1 / (1e-2 * 60))


def test_either_replaces_the_other_on_the_command_line_and_a_recipe_holds_one(workplace, refuses):  # noqa: F811
    path = write_recipe(weight_decay=0.3)
    assert load(path, {"weight_decay_epochs": 4.0}).training.get("weight_decay") is None
    path = write_recipe(weight_decay_epochs=4.0)
    assert load(path, {"weight_decay": 0.2}).run.weight_decay_epochs is None
    write_recipe(weight_decay=0.3, weight_decay_epochs=4.0)
    refuses(says=["weight_decay and weight_decay_epochs are both given: leave one out"])
    write_recipe(weight_decay_epochs=0)
    refuses(says=["weight_decay_epochs is 0; it must be above 0"])


@pytest.mark.parametrize("changes", [{"max_steps": 6}, MUON], ids=["AdamW", "Muon"])
def test_a_run_decays_by_it_says_so_and_resumes_bit_for_bit(workplace, capsys, changes):
    write_recipe(weight_decay_epochs=6.0, save_total_limit=20, **changes)
    assert run() == 0
    samples = (json.loads(Path("out/data.json").read_text())["train"]["tokens"] - 1) // 16
    steps = 6 * samples / 12
    expected = 1 / (1e-2 * steps)
    said = f"weight decay: {expected:.3g}, so the weights average over the last {steps:.0f} steps (6 epochs)\n"
    assert said in capsys.readouterr().out
    groups = torch.load("out/checkpoint-3/optimizer.pt", weights_only=True)["param_groups"]
    assert [decay for decay in (group["weight_decay"] for group in groups) if decay] == pytest.approx(
        [expected] * (len(groups) - 1)
    )
    assert of_run(read_run(Path("out"))).weight_decay == pytest.approx(expected)
    assert json.loads(Path("out/all_results.json").read_text())["weight_decay"] == pytest.approx(expected)

    cut_off("out", "again")
    assert run("--output_dir", "again") == 0
    assert Path("again/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()


def test_a_checkpoint_goes_on_with_the_same_epochs_only(workplace, refuses):  # noqa: F811
    write_recipe(weight_decay_epochs=2.0)
    assert run() == 0
    cut_off("out", "again")
    refuses("--output_dir", "again", "--weight_decay_epochs", "3", says=["weight_decay_epochs was 2.0, is 3"])
    refuses("--output_dir", "again", "--weight_decay", "0.1", says=["weight_decay was None, is 0.1"])


def test_what_is_expected_counts_the_decay_that_the_text_makes(workplace):
    asked = recipe(weight_decay_epochs=4.0)
    assert of_recipe(asked, 12 * 16 * 100 + 1).weight_decay == pytest.approx(1 / (1e-2 * 4 * 100))
