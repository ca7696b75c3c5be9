"""Every fault, planted in a small real run, is named; clean runs raise none."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from clm.data.blocks import Blocks
from clm.data.order import EpochOrder
from clm.explain.explain import explain_run
from clm.explain.faults import checks
from clm.explain.faults.evidence import Evidence
from clm.explain.references import entries
from clm.explain.scaling import usual_learning_rate
from clm.model import gpt2
from clm.runs.curve import Curve
from clm.runs.record import read_run
from tests.explain.planted import findings, sentences, write_texts


@pytest.fixture(autouse=True)
def texts(workplace):
    """Some 50,000 tokens to train on, and others to validate."""
    write_texts(sentences(900, seed=2), sentences(40, seed=3))


def test_a_clean_run_raises_none():
    assert findings() == []


# The training losses of these two do fall by 0.1 where the second and the third epoch begin: steps 386 and 771.
REAL_STAIRS = ("w-2x128-cosine0", "m-w-2x128-cosine0")


@pytest.mark.parametrize("entry", entries("small_runs.json"), ids=lambda entry: entry["name"])
def test_the_reference_runs_raise_none_at_any_time(entry):
    recipe = entry["recipe"]
    tokens = recipe["block_size"] * recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    curve = Curve.from_points(entry["train"], entry["validation"])
    for share in (0.1, 0.2, 0.4, 0.7, 1.0):
        evidence = Evidence(
            curve=curve.until(share * recipe["max_steps"]),
            vocab_size=recipe["vocab_size"],
            unigram=entry["unigram_loss"],
            tokens_per_step=tokens,
            tokens_per_epoch=entry["dataset_tokens"],
            accumulation=recipe["gradient_accumulation_steps"],
            peak_rate=recipe["learning_rate"],
            usual_rate=usual_learning_rate(12 * recipe["n_layer"] * recipe["n_embd"] ** 2),
        )
        found = [fault["name"] for fault in checks.find(evidence)]
        assert found == [] or (found == ["stairs at each epoch"] and entry["name"] in REAL_STAIRS), share


def test_an_evaluation_before_any_training_loss_was_logged_raises_none():
    curve = Curve.from_points([], [(10, 5.0)])
    assert checks.find(Evidence(curve, 300, 4.0, 100, 1000, 1, 1e-3, 1e-3)) == []
    assert checks.find(Evidence(Curve.of([]), 300, None, 100, 1000, 1, 1e-3, 1e-3)) == []


def batches(monkeypatch, change):
    """Let `change` make a batch into another one, in training only: evaluation doesn't go through Blocks."""
    original = Blocks.__getitems__
    monkeypatch.setattr(Blocks, "__getitems__", lambda self, samples: change(original(self, samples)))


def test_labels_that_are_not_shifted(monkeypatch):
    batches(monkeypatch, lambda batch: batch | {"labels": batch["input_ids"]})
    assert findings() == ["too good to be true"]


def test_shuffled_tokens_give_a_plateau_at_the_unigram_entropy(monkeypatch):
    chance = torch.Generator().manual_seed(0)

    def shuffled(batch):
        order = torch.randperm(batch["labels"].numel(), generator=chance)
        labels = batch["labels"].flatten()[order].reshape(batch["labels"].shape)
        return batch | {"labels": labels}

    batches(monkeypatch, shuffled)
    assert "plateau at the unigram entropy" in findings()


def test_a_spike(monkeypatch):
    seen = []

    def sometimes_wrong(batch):
        seen.append(1)
        return batch | {"labels": batch["labels"].flip(1)} if 240 < len(seen) <= 243 else batch

    batches(monkeypatch, sometimes_wrong)
    assert "spikes" in findings()


def test_divergence():
    names = findings(learning_rate=2.0, lr_scheduler_type="linear", warmup_steps=290)
    assert "divergence" in names


def test_a_learning_rate_that_is_too_high():
    assert "learning rate too high" in findings(
        learning_rate=0.2, lr_scheduler_type="constant", warmup_steps=0, adam_beta2=0.999
    )


def test_a_learning_rate_that_is_too_low():
    assert "learning rate too low" in findings(learning_rate=2e-4, lr_scheduler_type="constant", warmup_steps=0)


def test_initial_weights_that_are_too_large_start_above_the_uniform_guess():
    assert "loss above ln(vocabulary)" in findings(initializer_range=2.0)


def test_overfitting_and_its_best_step():
    write_texts(sentences(25, seed=2), sentences(40, seed=3))
    # Of blocks that shift it learns the language, in as many passes, and the validation loss falls to 1.5.
    assert "overfitting" in findings(n_embd=64, learning_rate=1e-2, shift_blocks=False)
    log = json.loads(Path("out/trainer_state.json").read_text())["log_history"]
    best = min((entry for entry in log if "eval_loss" in entry), key=lambda entry: entry["eval_loss"])["step"]
    explained = explain_run(read_run(Path("out")))
    (text,) = [fault["text"] for fault in explained["findings"] if fault["name"] == "overfitting"]
    assert f"at step {best} was the best" in text


def test_training_text_that_repeats_itself():
    write_texts(sentences(25, seed=2) * 300, sentences(40, seed=3))
    assert findings() == ["duplicate training text"]


def test_validation_text_that_stands_in_the_training_text():
    validation, chance = sentences(3, seed=3), random.Random(4)
    letters = "abcdefghijklm"
    noise = [" ".join("".join(chance.choices(letters, k=4)) for _ in range(20)) for _ in range(450)]
    train = noise + validation * 150
    chance.shuffle(train)
    write_texts(train, validation)
    assert "training text in validation" in findings(n_embd=64)


def test_accumulation_that_sums_instead_of_averaging(monkeypatch):
    original = gpt2.GPT2LMHeadModel.forward

    def each_batch_for_itself(self, input_ids=None, labels=None, num_items_in_batch=None, **kwargs):
        return original(self, input_ids=input_ids, labels=labels, **kwargs)

    monkeypatch.setattr(gpt2.GPT2LMHeadModel, "forward", each_batch_for_itself)
    assert findings(gradient_accumulation_steps=4, per_device_train_batch_size=2) == ["mis-scaled accumulation"]


def test_a_repeat_that_goes_another_way(monkeypatch):
    changes = {"save_strategy": "steps", "save_steps": 30, "save_total_limit": 9, "max_steps": 60, "eval_steps": 30}
    assert findings(**changes) == []
    shutil.move("out/checkpoint-60", "out/checkpoint-45")  # what it says of the steps to 60 stays as it was
    Path("out/run_status.json").unlink()
    original = EpochOrder.start_at
    monkeypatch.setattr(EpochOrder, "start_at", lambda self, epoch, batch: original(self, epoch, batch + 1))
    names = findings("--resume_from_checkpoint", "out/checkpoint-30", **changes)
    assert "non-determinism between resumes" in names
