"""fp16 with a gradient scaler, as cards without bf16 train, in real runs on a CPU."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from clm.launch import hardware
from clm.training.trainer import ClmTrainer
from tests.tiny import cut_off, history, run, start_processes, write_recipe

SCHEDULE = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "logging_steps": 1}


def on_a_card_without_bf16(init_scale: float = 2.0**16, growth_interval: int = 2000, set_in=setattr) -> None:
    """Give the CPU a T4's precisions, and accelerate a scaler for it, which it makes for GPUs only."""
    create = Trainer.create_accelerator_and_postprocess

    def create_with_scaler(trainer: Trainer) -> None:
        create(trainer)
        if trainer.args.fp16:
            trainer.accelerator.native_amp = True
            trainer.accelerator.scaler = torch.amp.GradScaler(
                "cpu", init_scale=init_scale, growth_interval=growth_interval
            )

    set_in(hardware, "has_bf16", lambda device: False)
    set_in(hardware, "has_fp16", lambda device: True)
    set_in(Trainer, "create_accelerator_and_postprocess", create_with_scaler)


@pytest.fixture
def card(monkeypatch):
    """The same until the end of a test."""
    return partial(on_a_card_without_bf16, set_in=monkeypatch.setattr)


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "model.safetensors"))


def test_a_card_without_bf16_takes_fp16_where_it_trains(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75"])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    decision = hardware.fit({"bf16": True})
    assert decision.training == {"bf16": False, "fp16": True}
    assert decision.lines == [
        "device: Tesla T4",
        "precision: fp16 autocast over fp32 weights and a gradient scaler, since this device has no bf16 arithmetic",
    ]
    for training, trains, environment in (
        ({"bf16": False}, True, {}),
        ({"bf16": True}, False, {}),  # evaluation
        ({"bf16": True}, True, {"ACCELERATE_USE_FSDP": "true"}),
    ):
        with monkeypatch.context() as changed:
            for key, value in environment.items():
                changed.setenv(key, value)
            assert hardware.fit(training, trains).training == {"bf16": False}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (6, 1))  # its fp16 is slower than fp32
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    assert hardware.fit({"bf16": True}).training == {"bf16": False}


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon"])
def test_fp16_trains_as_fp32_does(workplace, capsys, card, optim):
    write_recipe(optim=optim, resid_pdrop=0.0, embd_pdrop=0.0, max_steps=24, eval_steps=12, save_steps=12)
    assert run("--output_dir", "fp32") == 0
    card()
    assert run("--output_dir", "fp16", "--bf16", "true") == 0
    assert "precision: fp16 autocast over fp32 weights and a gradient scaler" in capsys.readouterr().out
    assert history("fp16", "loss_scale") == [2.0**16] * 24
    for key, tolerance in (("loss", 2e-2), ("eval_loss", 1e-2)):
        assert history("fp16", key) == pytest.approx(history("fp32", key), abs=tolerance)
        assert history("fp16", key) != history("fp32", key)
    assert history("fp16", "grad_norm") == pytest.approx(history("fp32", "grad_norm"), rel=0.05)  # not scaled
    noise = [history(folder, "gradient_noise_scale")[-1] for folder in ("fp16", "fp32")]  # nor the first micro-batch
    assert noise[0] == pytest.approx(noise[1], rel=0.1)
    assert json.loads(Path("fp16/environment.json").read_text())["precision"] == "fp16"
    assert all(tensor.dtype == torch.float32 for tensor in weights("fp16").values())


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon"])
def test_steps_that_overflow_are_left_out_until_the_scale_fits(workplace, card, optim):
    write_recipe(**SCHEDULE, optim=optim, max_steps=12, eval_steps=12, save_steps=12, learning_rate=1e-2)
    card(init_scale=2.0**24)
    assert run("--bf16", "true") == 0
    scales = history("out", "loss_scale")  # after each step; fp16 holds no gradient above 65,504
    left_out = next(number for number, scale in enumerate(scales) if scale == scales[-1]) + 1
    assert scales == [2.0 ** (24 - min(number, left_out)) for number in range(1, 13)] and 2 < left_out < 11
    assert len(history("out", "grad_norm")) == 12 - left_out
    assert all(map(math.isfinite, history("out", "loss") + history("out", "grad_norm")))
    rates = history("out", "learning_rate")  # they count steps, whether left out or not
    assert [round(rate / 1e-3, 6) for rate in rates[2:]] == [10 - number for number in range(10)]


def test_what_overflows_without_a_scale_too_stops_the_run(workplace, capsys, card, monkeypatch):
    step = ClmTrainer.training_step

    def with_infinite_gradients(trainer, model, *args):
        loss = step(trainer, model, *args)
        model.transformer.wpe.weight.grad[0, 0] = math.inf
        return loss

    write_recipe(**SCHEDULE, max_steps=40, eval_steps=40, save_steps=40)
    card()
    monkeypatch.setattr(ClmTrainer, "training_step", with_infinite_gradients)
    assert run("--bf16", "true") == 74
    err = capsys.readouterr().err
    # 65,536 is halved 17 times to a half.
    assert "error: the gradients overflow fp16 at step 18 (" in err and "--bf16 false" in err
    assert not list(Path("out").glob("checkpoint-*"))


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon"])
def test_a_resumed_run_goes_on_with_its_scale(workplace, card, optim):
    write_recipe(optim=optim, resid_pdrop=0.1, max_steps=9, eval_steps=3, save_steps=3, save_total_limit=9)
    card(init_scale=2.0**14, growth_interval=2)  # it doubles twice until step 4, and half way to the next at step 3
    assert run("--bf16", "true") == 0
    assert history("out", "loss_scale")[:5] == [2.0**14, 2.0**15, 2.0**15, 2.0**16, 2.0**16]
    cut_off("out", "again", 3)
    saved = torch.load("again/checkpoint-3/scaler.pt", weights_only=True)
    assert (saved["scale"], saved["_growth_tracker"]) == (2.0**15, 1)
    assert run("--bf16", "true", "--output_dir", "again") == 0
    for key in ("loss", "loss_scale", "grad_norm", "eval_loss"):
        assert history("again", key) == history("out", key), key
    assert all(torch.equal(tensor, weights("out")[name]) for name, tensor in weights("again").items())


def test_another_precision_goes_on_without_the_scale(workplace, card, monkeypatch):
    write_recipe()
    with monkeypatch.context():
        assert run() == 0  # fp32, without a scaler
    cut_off("out", "from-fp32", 3)
    card()
    assert run("--bf16", "true", "--output_dir", "from-fp32") == 0
    cut_off("from-fp32", "from-fp16", 6)
    assert run("--output_dir", "from-fp16", "--max_steps", "9") == 0


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_spike_gets_what_the_recipe_asks_for_in_fp16(workplace, capsys, card, monkeypatch, action):
    step = ClmTrainer.training_step

    def with_a_spike(trainer, *args):
        loss = step(trainer, *args)
        return loss + 10 if trainer.state.global_step == 22 else loss

    write_recipe(max_steps=24, eval_steps=6, save_steps=6, loss_spike=action, gradient_accumulation_steps=1)
    card()
    monkeypatch.setattr(ClmTrainer, "training_step", with_a_spike)
    assert run("--bf16", "true") == 0
    said = {"skip": "the weights stay as they were", "rollback": "back to the weights of step 18"}[action]
    assert said in capsys.readouterr().out and history("out", "loss_scale") == [2.0**16] * 24


RANK = """
import sys
import run_clm
from tests.training.test_loss_scale import on_a_card_without_bf16
on_a_card_without_bf16(init_scale=2.0**14, growth_interval=3)
sys.exit(run_clm.main(["--config", "tiny.json", "--bf16", "true", "--output_dir", "two"]))
"""


def test_two_processes_scale_as_one_does(workplace, card):
    sizes = {"gradient_accumulation_steps": None, "global_batch_size": 24}
    write_recipe(**SCHEDULE, **sizes, resid_pdrop=0.0, embd_pdrop=0.0, max_steps=9, eval_steps=9, save_steps=9)
    card(init_scale=2.0**14, growth_interval=3)
    assert run("--bf16", "true", "--output_dir", "one") == 0
    both = start_processes(RANK, 2)
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert history("two", "loss_scale") == history("one", "loss_scale")
    assert history("two", "loss_scale")[::3] == [2.0**14, 2.0**15, 2.0**16]
    for key in ("loss", "grad_norm"):
        assert history("two", key) == pytest.approx(history("one", key), rel=2e-2), key
