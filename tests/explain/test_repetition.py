"""Repeating a text costs more with every epoch, less with weight decay and dropout, nothing in the first."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from calibration import repetition
from clm.config.recipe import load
from clm.explain import references, setup
from clm.explain.advice.advise import advise
from clm.explain.forecast import Law
from clm.explain.scaling import OVERFITTING, OVERFITTING_LIMIT, SMALL_HALF_LIFE, Overfitting, effective_tokens
from clm.explain.situation import Situation
from clm.files import read_json

EPOCH = 20  # steps


def situation(epochs: int, **changes: object) -> Situation:
    law = Law(lambda at: [1e-2] * len(at), epochs * EPOCH, EPOCH)
    values = {
        "text": "wikitext",
        "non_embedding_parameters": 98_304,
        "unigram": 5.2,
        "bytes_per_token": 2.16,
        "vocab_size": 512,
        "block_size": 64,
        "peak_rate": 1e-2,
        "tokens_per_step": 1024,
        "dataset_tokens": 1024 * EPOCH,
        "law": law,
        "muon": True,
    }
    return Situation(**values | changes)


def test_the_penalty_worked_out_by_hand():
    # 12 / (1 + 12 / 6) = 4; 0.1 * 4 * (10 - 1)^0.5 = 1.2; weight decay, dropout and AdamW divide it by e each.
    law = Overfitting(scale=0.1, saturation=6.0, epochs_power=0.5, decay=2.0, dropout=5.0, adamw=1.0, decay_cost=0.0)
    assert law.penalty(12.0, 10.0, 0.0, 0.0, True) == pytest.approx(1.2)
    assert law.penalty(12.0, 10.0, 0.5, 0.2, False) == pytest.approx(1.2 * math.exp(-3))
    assert law.penalty(12.0, 1.0, 0.0, 0.0, True) == 0
    # What weight decay costs in learning is 0.52 * 0.5 ln 10 / (1 + 12).
    costly = replace(law, decay_cost=0.52)
    assert costly.penalty(12.0, 10.0, 0.5, 0.2, False) == pytest.approx(1.2 * math.exp(-3) + 0.02 * math.log(10))
    assert costly.penalty(12.0, 0.4, 0.5, 0.2, False) == 0


def test_repeated_tokens_are_worth_less_to_a_small_model_than_to_a_large_one():
    # Of 10 passes over 100 tokens: 100 + 100 R* (1 - e^(-9 / R*)).
    assert effective_tokens(100, 1000) == pytest.approx(100 + 1539 * (1 - math.exp(-9 / 15.39)))
    assert effective_tokens(100, 1000, SMALL_HALF_LIFE) == pytest.approx(100 + 600 * (1 - math.exp(-1.5)))


def test_dropout_costs_less_where_a_model_has_many_weights_for_each_token():
    def cost(tokens: int) -> float:
        runs = (situation(1, dataset_tokens=tokens, dropout=dropout) for dropout in (0.2, 0.0))
        with_dropout, without = (references.model().expect(run, EPOCH).loss for run in runs)
        return with_dropout - without

    # In the first pass nothing is learned by heart: what is left is what dropout costs, at 0.1 and at 4.8 weights.
    assert cost(1024 * EPOCH) < 0.4 * cost(980_000) and cost(980_000) > 0.1


def test_it_rises_with_epochs_and_falls_with_weight_decay_and_dropout():
    def cost(epochs: int, **changes: object) -> float:
        return situation(epochs, **changes).overfitting(epochs * EPOCH)

    assert cost(1) == 0 < cost(4) < cost(16) < cost(64)
    assert cost(16, weight_decay=1.6) < cost(16, weight_decay=0.4) < cost(16)
    assert cost(16, dropout=0.2) < 0.2 * cost(16)
    assert cost(16, dataset_tokens=None) == 0


def test_what_a_step_of_a_larger_batch_is_worth_adds_no_epochs():
    larger = Law(lambda at: [1e-2] * len(at), 10 * EPOCH, EPOCH, worth=1.9)
    assert situation(10, law=larger).overfitting_terms(10 * EPOCH)[1] == pytest.approx(10)
    assert larger.progress(np.array([10 * EPOCH])) == pytest.approx(1.9 * 10 * EPOCH)


def test_the_expected_validation_loss_turns_up_and_that_of_training_does_not():
    model = references.model()
    losses = [model.expect(situation(epochs), epochs * EPOCH).loss for epochs in (4, 8, 16, 32, 64)]
    assert losses[-1] > min(losses) + 0.5
    trained = [model.expect(situation(epochs), epochs * EPOCH, of_training=True).loss for epochs in (4, 64)]
    assert trained[1] < trained[0]


def advised(tmp_path: Path, epochs: int, width: int = 64, **changes: object) -> list[dict]:
    recipe = {
        "train_file": "text.txt", "vocab_size": 512, "block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": width,
        "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "optim": "muon", "learning_rate": 1e-2,
        "lr_scheduler_type": "linear", "weight_decay": 0.1, "num_train_epochs": epochs, "bf16": False,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe | changes))
    made = setup.of_recipe(load(tmp_path / "recipe.json"), 1024 * EPOCH)
    return advise(made, made.total_steps, 4.5)


def advice_of(tmp_path: Path, *args: int, **changes: object) -> dict[str, float | None]:
    return {each["title"]: each["gain_nats"] for each in advised(tmp_path, *args, **changes)}


def test_a_run_of_too_many_epochs_is_told_the_best_count_weight_decay_and_dropout(tmp_path):
    given = advice_of(tmp_path, 32)
    fewer = next(title for title in given if title.startswith("train for"))
    assert int(fewer.split()[2]) in (4, 8, 16) and given[fewer] > 0.3
    (pair,) = (title for title in given if title.startswith("weight decay of"))
    decay, dropout = (float(word) for word in pair.split() if word[0].isdigit())
    assert decay >= 0.8 and dropout in (0.05, 0.1, 0.2) and given[pair] > 0.3
    # Nothing more is advised where it is followed.
    followed = advice_of(tmp_path, 32, weight_decay=decay, resid_pdrop=dropout, embd_pdrop=dropout)
    assert not any(title.startswith(("weight decay of", "dropout of")) for title in followed)


def test_a_run_of_few_epochs_or_a_large_model_isnt(tmp_path):
    assert not any("dropout of" in title for title in advice_of(tmp_path, 1))
    large = advice_of(tmp_path, 32, 256)
    assert large["try a weight decay of up to 0.8"] is None
    assert not any(title.startswith("weight decay of") for title in large)
    (why,) = (each["text"] for each in advised(tmp_path, 32, 256) if each["title"].startswith("try a weight decay"))
    steps = (1024 * EPOCH - 1) // 64 / 16
    assert f"which is {1 / (1e-2 * 4 * steps):.2g} at this rate" in why


def test_models_larger_than_the_evidence_pay_nothing():
    large = situation(64, non_embedding_parameters=int(OVERFITTING_LIMIT) + 1)
    assert large.overfitting(64 * EPOCH) == 0


def test_the_constants_that_ship_are_those_that_are_fitted():
    law = repetition.fit(repetition.points_of(repetition.runs_at_hand()), rounds=1)
    for each in fields(law):
        assert getattr(law, each.name) == pytest.approx(getattr(OVERFITTING, each.name), rel=0.05), each.name


def test_the_fit_finds_the_law_that_made_the_losses():
    made = Overfitting(0.01, 5.0, 1.5, 6.0, 10.0, 1.5, 0.08)
    runs = repetition.runs_at_hand()[::4]
    points = repetition.points_of(runs)
    model, told = references.model(), []
    for point in points:
        situation, step = point.situation, point.step
        without = model.expect(situation, step).loss - situation.overfitting(step)
        told.append(replace(point, loss=without + situation.overfitting(step, made)))
    fitted = repetition.fit(told, made)
    for name, near in (("epochs_power", 0.15), ("decay", 1.5), ("dropout", 2.5), ("decay_cost", 0.04)):
        assert getattr(fitted, name) == pytest.approx(getattr(made, name), abs=near), name


@pytest.mark.parametrize("left_out", ["a run", "a size", "its text"])
@pytest.mark.parametrize("which", ["one text", "regime"])
def test_runs_left_out_are_told_from_each_other_better_with_it(which, left_out):
    scored = read_json(repetition.RESULTS)[f"{which}, {left_out} left out"]
    assert scored["with penalty, of changes"] < 0.6 * scored["without, of changes"]
    assert scored["with penalty, pairs in order"] > 0.8 > 0.7 > scored["without, pairs in order"]


def test_the_pair_it_picks_for_a_size_it_never_saw_is_nearly_the_best_of_those_measured():
    picks = read_json(repetition.RESULTS)["picks"]
    assert len(picks) == 5 and all(pick["above the best"] <= 0.03 for pick in picks.values())


def test_weight_decay_counts_by_the_steps_of_an_epoch_whatever_the_rate():
    assert situation(16, weight_decay=0.4).overfitting_terms(320)[2] == pytest.approx(0.4 * EPOCH / 100)
    assert situation(16, peak_rate=5e-3).overfitting_terms(320)[2] == pytest.approx(0.1 * EPOCH / 100)
