"""What is tried before training: the largest micro-batch that fits, and the speed of one. On a model of the CPU's."""

import json
from types import SimpleNamespace

import pytest
import torch

from clm.config.recipe import ModelOptions, load
from clm.model.gpt2 import fresh_model
from clm.training import tryout
from clm.training.checkpoint import rng
from tests.data.small import small_tokenizer
from tests.tiny import write_recipe

OPTIONS = ModelOptions(n_layer=1, n_head=1, n_embd=8)  # with dropout


def made():
    args = SimpleNamespace(device=torch.device("cpu"), bf16=False, fp16=False, world_size=1, torch_compile=False)
    args.activation_checkpointing, args.per_device_train_batch_size, args.gradient_accumulation_steps = False, 4, 8
    return fresh_model(OPTIONS, 16, small_tokenizer()), args


def test_only_parts_of_the_batch_are_tried():
    assert tryout.powers_of_two(32) == [1, 2, 4, 8, 16, 32]
    assert tryout.powers_of_two(24) == [1, 2, 4, 8]
    assert tryout.powers_of_two(7) == [1]


def test_the_largest_that_fits_is_found_without_trying_what_cannot_fit():
    tried = []

    def memory(size):  # 10 for the weights, 3 a sequence
        tried.append(size)
        return 10 + 3 * size

    assert tryout.largest_fitting([1, 2, 4, 8, 16, 32], memory, budget=40) == 8  # 34 of 40; 16 would need 58
    assert tried == [1, 2, 4, 8]
    assert tryout.largest_fitting([1, 2, 4], memory, budget=1000) == 4
    assert tryout.largest_fitting([1, 2, 4], memory, budget=5) == 1


def test_where_the_memory_ends_before_the_line_says_so_the_one_before_is_taken():
    assert tryout.largest_fitting([1, 2, 4, 8], lambda size: None if size > 2 else size, budget=100) == 2
    assert tryout.largest_fitting([1, 2], lambda _: None, budget=100) == 1


@pytest.fixture
def gpu(monkeypatch):
    """torch.cuda of a card with 1 MB free of which a sequence takes 30 kB, where the tensors are a CPU's."""
    rows = []
    forward_backward = tryout.forward_backward

    def counting(model, args, size):
        rows.append(size)
        forward_backward(model, SimpleNamespace(**vars(args) | {"device": torch.device("cpu")}), size)

    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1_000_000, 2_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 100_000 + 30_000 * rows[-1])
    monkeypatch.setattr(tryout, "forward_backward", counting)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_: module)
    return rows


def settle(tmp_path, monkeypatch, resume_from=None, **others):
    monkeypatch.chdir(tmp_path)
    keys = {"per_device_train_batch_size": None, "gradient_accumulation_steps": None, "global_batch_size": 32}
    recipe = load(write_recipe(**keys | {"torch_compile": False}))
    model, args = made()
    vars(args).update(device=torch.device("cuda"), **others)
    lines = tryout.settle(model, args, recipe, resume_from, 100)
    return args, lines, model


def test_the_largest_micro_batch_that_fits_is_taken_and_said(gpu, tmp_path, monkeypatch):
    args, lines, model = settle(tmp_path, monkeypatch)
    # 800 kB are usable, less 8 bytes for each of the parameters; 16 sequences need 580 kB, 32 would need 1,060.
    assert 580_000 < 800_000 - 8 * model.num_parameters() < 1_060_000
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (16, 2) and gpu == [1, 2, 4, 8, 16]
    assert lines[0].startswith("micro-batch: 16 sequences (the largest power of two that was seen to fit into 0.0 GB;")


def test_all_processes_take_what_fits_on_each(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(tryout, "gather_object", lambda own: [*own, 4])
    args, *_ = settle(tmp_path, monkeypatch, world_size=2)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 4)


def test_a_resumed_run_keeps_its_micro_batch(gpu, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps({"train_batch_size": 8}))
    args, lines, _ = settle(tmp_path, monkeypatch, resume_from=folder)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (8, 4) and gpu == []
    assert "as in the checkpoint" in lines[0]
    for device, size in (("NVIDIA A100", 8), ("Tesla T4", 16)):  # an A100 takes 16, whatever a T4 had to do with
        (tmp_path / "environment.json").write_text(json.dumps({"device": device}))
        assert settle(tmp_path, monkeypatch, resume_from=folder)[0].per_device_train_batch_size == size
    (folder / "trainer_state.json").write_text(json.dumps({"train_batch_size": 5}))  # no part of 32
    assert settle(tmp_path, monkeypatch, resume_from=folder)[0].per_device_train_batch_size == 16


def test_a_try_leaves_no_trace():
    model, args = made()
    torch.manual_seed(7)
    before, weights = rng.get(), [weight.clone() for weight in model.parameters()]
    with tryout.left_as_it_was(model, args):
        tryout.forward_backward(model, args, 2)
        assert all(weight.grad is not None for weight in model.parameters())
    assert torch.equal(rng.get()["cpu"], before["cpu"])
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, was) for weight, was in zip(model.parameters(), weights, strict=True))


def test_the_time_is_the_mean_after_a_first_one(monkeypatch):
    done, clock = [], iter([10.0, 16.0])
    monkeypatch.setattr(tryout.time, "perf_counter", lambda: next(clock))
    assert tryout.seconds_of(lambda: done.append(1), torch.device("cpu")) == 2.0 and len(done) == 4


@pytest.mark.parametrize(
    ("steps", "eager", "compiled", "starts"),
    [(10, 0.01, 0.001, "off: it takes"), (10**6, 0.01, 0.005, "on: "), (10**6, 0.01, 0.0099, "off: a micro-batch")],
)
def test_the_speed_that_was_measured_decides(monkeypatch, steps, eager, compiled, starts):
    # One layer takes about 5 s to compile: 10 steps of 8 micro-batches of 10 ms are 0.8 s.
    seconds = iter([eager, compiled])
    monkeypatch.setattr(tryout, "seconds_of", lambda *_: next(seconds))
    monkeypatch.setattr(tryout.acceleration, "compile_a_little", lambda _: None)
    model, args = made()
    pays, line = tryout._compile(model, args, steps)
    assert line.startswith(starts) and pays is starts.startswith("on")


def test_a_compiler_that_fails_is_said(monkeypatch):
    def fails(_):
        raise RuntimeError("Failed to find C compiler.\nPlease specify")

    monkeypatch.setattr(tryout, "seconds_of", lambda *_: 1.0)
    monkeypatch.setattr(tryout.acceleration, "compile_a_little", fails)
    assert tryout._compile(*made(), 10**6) == (False, "off: tried, and RuntimeError: Failed to find C compiler.")


@pytest.mark.slow
def test_the_model_is_timed_with_and_without_a_compiler():
    pays, line = tryout._compile(*made(), 10**9)
    assert line.startswith(("on: a micro-batch took", "off: a micro-batch took")) and pays is line.startswith("on")
