"""Whole runs under torch.compile: the eager run's losses, and files that are just the same."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clm.launch import acceleration
from clm.training import tryout
from tests.test_processes import FSDP2
from tests.tiny import ROOT, history, launch, run, write_recipe

# Epochs of three steps and a short one; no dropout, whose numbers a compiled model draws differently. `aot_eager` is
# all of the compiler but the C++ or Triton that it would write, which takes long.
RECIPE = {"per_device_train_batch_size": 16, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "max_steps": 9}
COMPILED = ("--torch_compile_backend", "aot_eager")


@pytest.fixture
def eager(workplace):
    """An undisturbed run without a compiler, in the folder eager."""
    write_recipe(**RECIPE)
    assert run("--output_dir", "eager") == 0


def names(folder: str) -> dict[str, tuple]:
    return {name: tuple(tensor.shape) for name, tensor in load_file(Path(folder, "model.safetensors")).items()}


def same(folder: str) -> None:
    for key in ("loss", "eval_loss"):
        assert history(folder, key) == pytest.approx(history("eager", key), abs=1e-4), key
    for part in ("", "checkpoint-9"):
        assert names(f"{folder}/{part}") == names(f"eager/{part}")
    ours, theirs = (torch.load(f"{each}/checkpoint-9/optimizer.pt", weights_only=True) for each in (folder, "eager"))
    assert ours["state"].keys() == theirs["state"].keys() and len(ours["state"]) > 0
    assert Path(folder, "config.json").read_bytes() == Path("eager/config.json").read_bytes()


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon"])
def test_a_compiled_run_has_the_eager_ones_losses_and_files_and_goes_on(workplace, optim):
    write_recipe(**RECIPE, optim=optim)
    assert run("--output_dir", "eager") == 0
    assert run(*COMPILED) == 0
    same("out")
    for name in ("checkpoint-9", "model.safetensors", "run_status.json", "trainer_state.json"):
        path = Path("out", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree("out", "without")
    assert run(*COMPILED) == 0  # on from step 6, in the middle of the second epoch
    same("out")
    assert run("--output_dir", "without") == 0
    same("without")


def test_a_compiled_run_goes_back_to_a_checkpoint_after_a_spike(workplace, capsys):
    from clm.training.callbacks.loss_spikes import LossSpikes

    write_recipe(**RECIPE, loss_spike="rollback")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossSpikes, "is_one", lambda self, loss: self.saved_step == 6)
        assert run(*COMPILED, "--max_steps", "7") == 0
    assert "back to the weights of step 6" in capsys.readouterr().out
    before, after = (load_file(f"out/checkpoint-{step}/model.safetensors") for step in (6, 7))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_for_which_it_was_measured_to_pay_is_compiled_and_says_so(eager, monkeypatch, capsys):
    """As on a GPU, by the backend of these tests: what is measured is made up, the trial itself is real."""
    stock, compiled = torch.compile, []

    def compile_here(model, **how):
        compiled.append(model)
        return stock(model, backend="aot_eager")

    seconds = iter([1e9, 0.9e9])
    monkeypatch.setattr(tryout, "seconds_of", lambda attempt, _: attempt() or next(seconds))
    monkeypatch.setattr(acceleration, "is_compile_open", lambda *_: True)
    monkeypatch.setattr(acceleration, "compile_a_little", lambda _: None)
    monkeypatch.setattr(torch, "compile", compile_here)
    assert run() == 0
    assert "torch.compile: on: a micro-batch took 900,000,000,000.0 ms with it" in capsys.readouterr().out
    assert len(compiled) == 2 and compiled[0] is compiled[1]  # tried, and trained
    same("out")


@pytest.mark.slow
def test_what_inductor_makes_of_it_learns_the_same(eager):
    assert run("--torch_compile", "true") == 0
    same("out")


@pytest.mark.slow
def test_two_processes_under_ddp_and_fsdp2_compile_too_and_go_on(eager):
    write_recipe(**RECIPE | {"per_device_train_batch_size": 8}, torch_compile_backend="aot_eager")
    for folder, file in (("ddp", "run_clm.py"), ("sharded", "tests/fsdp2_on_gloo.py")):
        for _ in range(2):  # to the end, then again from the checkpoint of step 6
            launched = FSDP2 if folder == "sharded" else ("--multi_gpu", "--num_processes", "2")
            argv = ("--config", "tiny.json", "--output_dir", folder)
            done = launch(*launched, str(ROOT / file), *argv, ACCELERATE_USE_CPU="true")
            assert done.returncode == 0 and "torch.compile: on, as the recipe asks" in done.stdout, done.stderr
            same(folder)
            for name in ("checkpoint-9", "model.safetensors", "run_status.json", "trainer_state.json"):
                path = Path(folder, name)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
