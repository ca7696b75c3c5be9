"""What is done for every micro-batch, and what only once."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from clm.model.gpt2 import GPT2LMHeadModel
from clm.training.micro_batch import MicroBatchTrainer
from clm.training.resumable import ResumableTrainer
from clm.training.trainer import ClmTrainer
from tests.tiny import run, write_recipe

# 6 steps of 3 micro-batches of 4 blocks of 16 tokens, all within the first epoch, with no evaluation between them.
MICRO_BATCHES = 18
RECIPE = {"eval_strategy": "no", "load_best_model_at_end": False, "save_steps": 100}


@pytest.fixture
def recorded(monkeypatch):
    """A function: the first argument of each call of a method while the runs that follow train."""
    training, init = [], MicroBatchTrainer.__init__

    class Watch(TrainerCallback):
        def on_train_begin(self, *_, **__):
            training.append(True)

        def on_train_end(self, *_, **__):
            training.clear()

    def watched(trainer, **kwargs):
        init(trainer, **kwargs)
        trainer.add_callback(Watch())

    def calls_of(owner, name):
        calls, method = [], getattr(owner, name)

        def recording(self, *args, **kwargs):
            if training:
                calls.append(self)
            return method(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, recording)
        return calls

    monkeypatch.setattr(MicroBatchTrainer, "__init__", watched)
    return calls_of


def test_a_batch_is_copied_once(workplace, recorded):
    moved = recorded(torch.Tensor, "to")
    write_recipe(**RECIPE)
    assert run() == 0
    batches = [tensor for tensor in moved if tensor.dtype == torch.int64 and tensor.shape == (4, 16)]
    assert len(batches) == 2 * MICRO_BATCHES  # input_ids and labels


@pytest.mark.parametrize(("device", "without_waiting"), [("cuda:0", True), ("cpu", False)])
def test_a_batch_is_copied_to_a_gpu_without_waiting(monkeypatch, device, without_waiting):
    copies, to = [], torch.Tensor.to

    def recording(tensor, place, non_blocking=False):
        copies.append((str(place), non_blocking))
        return to(tensor, place, non_blocking=non_blocking)

    trainer = object.__new__(MicroBatchTrainer)
    trainer.args, trainer.is_deepspeed_enabled = SimpleNamespace(device=torch.device(device)), False
    monkeypatch.setattr(torch.Tensor, "to", recording)
    with FakeTensorMode():
        batch = {key: torch.zeros(4, 16, dtype=torch.int64) for key in ("input_ids", "labels")}
        moved = trainer._prepare_input(batch)
    assert {key: str(tensor.device) for key, tensor in moved.items()} == {"input_ids": device, "labels": device}
    assert copies == [(device, without_waiting)] * 2


@pytest.mark.parametrize(
    ("device", "wanted", "pinned"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_batches_for_a_gpu_are_made_in_pinned_memory(device, wanted, pinned):
    args = SimpleNamespace(
        device=torch.device(device), dataloader_pin_memory=wanted, dataloader_num_workers=2, ddp_timeout=60,
        dataloader_prefetch_factor=None, dataloader_persistent_workers=False, dataloader_multiprocessing_context=None,
        seed=0, data_seed=None, process_index=0, world_size=1,
    )  # fmt: skip
    blocks = type("Blocks", (list,), {"shifts": None})(range(8))
    loader = ClmTrainer.get_train_dataloader(SimpleNamespace(args=args, train_dataset=blocks, _train_batch_size=4))
    # torch's own class: accelerate's would copy each batch itself, and wait for it.
    assert type(loader) is DataLoader and loader.pin_memory == pinned and loader.num_workers == 2


def test_modules_are_walked_through_and_parameters_counted_once_not_in_every_micro_batch(workplace, recorded):
    asked = recorded(GPT2LMHeadModel, "train")
    walked, counted = recorded(torch.nn.Module, "train"), recorded(Trainer, "floating_point_ops")
    ours = recorded(MicroBatchTrainer, "floating_point_ops")
    write_recipe(**RECIPE)
    assert run() == 0
    assert len(asked) >= MICRO_BATCHES and len(ours) == MICRO_BATCHES
    assert sum(isinstance(module, GPT2LMHeadModel) for module in walked) <= 1 and len(counted) == 1
    # What comes out is what the stock one adds up: 6 for each weight but the embeddings' and token. A layer has
    # 816 + 272 weights of attention, 1,088 + 1,040 of the MLP and 64 of norms, and 32 are in the last norm.
    weights = 2 * (816 + 272 + 1_088 + 1_040 + 64) + 32
    state = json.loads(Path("out/trainer_state.json").read_text())
    assert state["total_flos"] == 6 * weights * MICRO_BATCHES * 4 * 16


def test_the_pass_that_adds_up_gradients_counts_no_label_and_draws_nothing(monkeypatch):
    """A resumed run begins with such passes, where the undisturbed one has none: dropout would go other ways."""
    seen = []
    stock = lambda trainer, model, inputs, labels: seen.append((inputs, torch.rand(3)))  # noqa: E731
    monkeypatch.setattr(ResumableTrainer, "training_step", stock, raising=False)
    trainer, before = object.__new__(MicroBatchTrainer), torch.get_rng_state()
    trainer._parts = 2
    trainer._add_up_gradients(None, {"input_ids": torch.ones(3, 4), "labels": torch.ones(3, 4)}, 12)
    assert torch.equal(torch.get_rng_state(), before)
    assert seen[0][0]["input_ids"].shape == (2, 4) and (seen[0][0]["labels"] == -100).all()


def test_a_model_is_put_into_another_mode_whole():
    class Tiny(GPT2LMHeadModel):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.part = torch.nn.Dropout()

    model = Tiny()
    for mode in (True, False, False, True, True):
        assert model.train(mode) is model and (model.training, model.part.training) == (mode, mode)
