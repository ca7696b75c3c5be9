"""Repeating a text costs more with every epoch, less with weight decay and dropout, nothing in the first."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from calibration import repetition
from clm.config.recipe import load
from clm.explain import references, setup
from clm.explain.advice.advise import advise
from clm.explain.expected import Situation
from clm.explain.forecast import Law
from clm.explain.scaling import OVERFITTING, OVERFITTING_LIMIT, Overfitting
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
    # 12 / (1 + 12 / 6) = 4; 0.1 * 4^0.5 * (10 - 1)^1 = 1.8; weight decay, dropout and AdamW divide it by e each.
    values = {"scale": 0.1, "size_power": 0.5, "epochs_power": 1.0, "decay": 2.0, "dropout": 5.0, "adamw": 1.0}
    law = Overfitting(**values, decay_cost=0.0, dropout_cost=0.0)
    assert law.penalty(12.0, 10.0, 0.0, 0.0, muon=True) == pytest.approx(1.8)
    assert law.penalty(12.0, 10.0, 0.5, 0.2, muon=False) == pytest.approx(1.8 * math.exp(-3))
    assert law.penalty(12.0, 1.0, 0.0, 0.0, muon=True) == 0
    # What holds it back costs (0.3 * 0.5 + 2 * 0.2) ln 10.
    costly = Overfitting(**values, decay_cost=0.3, dropout_cost=2.0)
    assert costly.penalty(12.0, 10.0, 0.5, 0.2, muon=False) == pytest.approx(1.8 * math.exp(-3) + 0.55 * math.log(10))
    assert costly.penalty(12.0, 1.0, 0.5, 0.2, muon=False) == 0


def test_it_rises_with_epochs_and_falls_with_weight_decay_and_dropout():
    def cost(epochs: int, **changes: object) -> float:
        return situation(epochs, **changes).overfitting(epochs * EPOCH)

    assert cost(1) == 0 < cost(4) < cost(16) < cost(64)
    assert cost(16, weight_decay=1.6) < cost(16, weight_decay=0.4) < cost(16)
    assert cost(16, dropout=0.2) < 0.6 * cost(16)
    assert cost(16, dataset_tokens=None) == 0


def test_the_expected_validation_loss_turns_up_and_that_of_training_does_not():
    model = references.model()
    losses = [model.expect(situation(epochs), epochs * EPOCH).loss for epochs in (4, 8, 16, 32, 64)]
    assert losses[-1] > min(losses) + 0.5
    trained = [model.expect(situation(epochs), epochs * EPOCH, of_training=True).loss for epochs in (4, 64)]
    assert trained[1] < trained[0]


def advice_of(tmp_path: Path, epochs: int, width: int = 64, **changes: object) -> dict[str, float | None]:
    recipe = {
        "train_file": "text.txt", "vocab_size": 512, "block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": width,
        "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "optim": "muon", "learning_rate": 1e-2,
        "lr_scheduler_type": "linear", "weight_decay": 0.1, "num_train_epochs": epochs, "bf16": False,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe | changes))
    made = setup.of_recipe(load(tmp_path / "recipe.json"), 1024 * EPOCH)
    return {each["title"]: each["gain_nats"] for each in advise(made, made.total_steps, 4.5)}


def test_a_run_of_too_many_epochs_is_told_the_best_count_weight_decay_and_dropout(tmp_path):
    given = advice_of(tmp_path, 32)
    fewer = next(title for title in given if title.startswith("train for"))
    assert int(fewer.split()[2]) in (4, 8, 16) and given[fewer] > 0.3
    assert given["weight decay of 1.6"] > 0.1 and given["dropout of 0.2"] > 0.1


def test_a_run_of_few_epochs_or_a_large_model_isnt(tmp_path):
    assert not any(title.startswith("dropout of 0.2") for title in advice_of(tmp_path, 1))
    large = advice_of(tmp_path, 32, width=256)
    assert large["try a weight decay of up to 0.8"] is None and "dropout of 0.2" not in large


def test_models_larger_than_the_evidence_pay_nothing():
    large = situation(64, non_embedding_parameters=int(OVERFITTING_LIMIT) + 1)
    assert large.overfitting(64 * EPOCH) == 0


def test_the_constants_that_ship_are_those_that_are_fitted():
    law = repetition.fit(repetition.rows_at_hand()).law
    for each in fields(law):
        assert getattr(law, each.name) == pytest.approx(getattr(OVERFITTING, each.name), rel=0.05)


def test_runs_left_out_are_expected_better_with_it():
    scored = read_json(repetition.RESULTS)
    one_text, regime = (scored[f"{which}, size left out"] for which in ("one text", "regime"))
    assert one_text["with penalty, error"] < 0.5 * one_text["without, error"]
    assert regime["with penalty, of changes"] < regime["without, of changes"]
    assert regime["with penalty, pairs in order"] > 2 * regime["without, pairs in order"]


def test_weight_decay_counts_by_the_epoch_at_the_peak_rate():
    plain = situation(16)
    decayed = replace(plain, weight_decay=0.4)
    assert plain.overfitting_terms(320)[2] == pytest.approx(1e-2 * 0.1 * EPOCH)
    assert decayed.overfitting_terms(320)[2] == pytest.approx(4 * plain.overfitting_terms(320)[2])
