"""A plan counts the forward passes of teachers that are in a folder, and names the others."""

import json
from pathlib import Path

import pytest

from clm.config.recipe import load
from clm.model.gpt2 import from_config, model_config
from clm.plan import plan
from tests.tiny import write_recipe


def test_two_teachers_of_the_students_shape_are_two_thirds_more_work(workplace):
    alone = load(write_recipe())
    made = from_config(model_config(alone.model, 16, vocab_size=300, end_of_text=0))
    made.config.save_pretrained("member")
    without = plan.make(alone, dataset_tokens=1000)
    with_two = plan.make(load(write_recipe(teachers=["member", "member"])), dataset_tokens=1000)
    assert with_two.flops == pytest.approx(without.flops * 5 / 3, rel=1e-9)
    assert "teachers" not in without.notes
    weights = 2 * made.num_parameters() * 4 / 1e9
    assert with_two.notes["teachers"].startswith(f"their forward passes are counted; their weights, {weights:.2f} GB")


def test_teachers_on_the_hub_are_named_and_not_asked_for(workplace):
    Path("other").mkdir()
    Path("other/config.json").write_text(json.dumps({"model_type": "llama"}))
    names = ["openai-community/gpt2", "other"]
    made = plan.make(load(write_recipe(teachers=names)), dataset_tokens=1000)
    assert made.flops == plan.make(load(write_recipe()), dataset_tokens=1000).flops
    assert "teachers" not in made.notes
    assert made.notes["teachers left out"] == "openai-community/gpt2, other: no folder of that name has a GPT-2"
