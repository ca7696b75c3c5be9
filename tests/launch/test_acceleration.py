"""What is decided for a GPU, with one that is made up."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from clm.config.recipe import load
from clm.launch import acceleration, hardware
from clm.model import liger
from tests.tiny import ROOT

MONTH = 10**13  # tokens


@pytest.fixture
def card(monkeypatch):
    """An H100 that has everything."""
    monkeypatch.setattr(hardware, "device_type", lambda _: "cuda")
    monkeypatch.setattr(hardware, "device_name", lambda _: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(acceleration, "compile_a_little", lambda _: None)
    monkeypatch.setattr(liger, "missing", lambda: None)
    monkeypatch.setattr(liger, "try_out", lambda _: None)


def fails(_):
    raise RuntimeError("Failed to find C compiler.\nPlease specify")


def decide(tokens=MONTH, world_size=1, bf16=True, fp16=False, **changes):
    """The arguments as they are decided, and the two lines."""
    wishes = {key: value for key, value in changes.items() if key.startswith("torch_compile")}
    compiled = bool(wishes.get("torch_compile") or wishes.get("torch_compile_mode"))  # as TrainingArguments does
    args = SimpleNamespace(torch_compile=compiled, torch_compile_backend=None, bf16=bf16, world_size=world_size)
    args.fp16 = fp16
    args.device = torch.device("cpu")
    recipe = load(ROOT / "recipes/wt103.json", changes)
    return args, acceleration.choose(args, recipe, parameters=111_000_000, tokens=tokens)


def test_compiling_has_to_save_five_times_what_it_costs(card):
    # 400 TFLOP/s, of which a fifth is saved: 300 s of 1,500, and five times 60 are 300.
    pays, line = acceleration._estimate(1501 * 400e12, 1000e12, compiling=60)
    assert pays and line == (
        "on: it takes about 60 s, and may save 300 of the 1,501 s that the run would take without "
        "(estimates: 40% of 1,000 TFLOP/s, 20% saved, and so 5 times the cost)"
    )
    pays, line = acceleration._estimate(1499 * 400e12, 1000e12, compiling=60)
    assert not pays and line.startswith("off: ") and "not 5 times" in line


def test_a_long_run_is_compiled_and_a_short_one_is_not(card):
    args, lines = decide()
    assert args.torch_compile and args.torch_compile_backend == "inductor"
    assert lines[1].startswith("torch.compile: on: it takes about 60 s")
    # 12 layers; 6 x (111 M - 1,024 x 768) + 6 x 12 x 768 x 1,024 = 717.9 M FLOPs a token, 395.6 TFLOP/s: 1,500 s are
    # 826.6 M tokens.
    assert [decide(tokens)[0].torch_compile for tokens in (826_000_000, 827_000_000)] == [False, True]
    assert [decide(tokens, world_size=8)[0].torch_compile for tokens in (6_600_000_000, 6_620_000_000)] == [False, True]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"torch_compile": True}, "on, as the recipe asks"),
        ({"torch_compile_mode": "max-autotune"}, "on, as the recipe asks"),
        ({"torch_compile": False}, "off, as the recipe asks"),
    ],
    ids=str,
)
def test_the_recipe_overrides_the_estimate(card, changes, line):
    for tokens in (1, MONTH):
        args, lines = decide(tokens, **changes)
        assert lines[1] == f"torch.compile: {line}" and args.torch_compile is line.startswith("on")


def test_where_no_peak_is_known_the_measured_one_decides(card, monkeypatch):
    monkeypatch.setattr(acceleration, "peak_flops", lambda device, name, half: 100e12 if half else 50e12)
    # As above, at 40 TFLOP/s: 83.6 M tokens take 1,500 s; at 20, half of them do.
    assert [decide(tokens)[0].torch_compile for tokens in (83_000_000, 84_000_000)] == [False, True]
    assert [decide(tokens, bf16=False)[0].torch_compile for tokens in (41_000_000, 42_000_000)] == [False, True]
    assert decide(84_000_000, bf16=False, fp16=True)[0].torch_compile


def test_where_it_fails_nothing_is_compiled(card, monkeypatch):
    monkeypatch.setattr(acceleration, "compile_a_little", fails)
    args, lines = decide()
    assert not args.torch_compile
    assert lines[1] == "torch.compile: off: tried, and RuntimeError: Failed to find C compiler."
    assert decide(torch_compile=True)[0].torch_compile  # who asks for it is told by torch what is wrong


@pytest.mark.slow
def test_a_compiler_that_is_not_there_is_found_out():
    code = "import torch; from clm.launch.acceleration import *; print(fault_of(compile_a_little, torch.device('cpu')))"
    said = []
    for changes in ({}, {"CXX": "/bin/false", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}):
        environment = {**os.environ, **changes}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        said.append(done.stdout.strip())
    assert said[0] == "None" and said[1].startswith("tried, and ") and "C++ compiler" in said[1]


def test_ligers_loss_is_taken_only_where_the_recipe_asks_for_it_and_it_works(card, monkeypatch):
    args, lines = decide(use_liger_kernel=True)
    assert args.use_liger_kernel and lines[0] == "loss: Liger Kernel's, without the logits (as the recipe asks)"
    args, lines = decide()
    assert not args.use_liger_kernel and lines[0] == "loss: this project's own, without the logits"
    args, lines = decide(use_liger_kernel=False)
    assert not args.use_liger_kernel and lines[0].endswith("own, without the logits (as the recipe asks)")
    monkeypatch.setattr(liger, "missing", lambda: "not installed")
    args, lines = decide(use_liger_kernel=True)
    assert not args.use_liger_kernel and "not installed" in lines[0]
    monkeypatch.setattr(liger, "missing", lambda: None)
    monkeypatch.setattr(liger, "try_out", fails)
    args, lines = decide(use_liger_kernel=True)
    assert not args.use_liger_kernel and lines[0].endswith(": tried, and RuntimeError: Failed to find C compiler.)")


def test_in_fp16_the_loss_is_our_own(card):
    args, lines = decide(bf16=False, fp16=True, use_liger_kernel=True)
    assert not args.use_liger_kernel
    assert "Liger Kernel's can't be used: it gives the head's gradient in fp16" in lines[0]


def test_on_a_cpu_both_are_off_unless_asked_for(monkeypatch):
    monkeypatch.setattr(hardware, "device_type", lambda _: "cpu")
    args, lines = decide(use_liger_kernel=True)
    assert not args.torch_compile and lines[1] == (
        "torch.compile: off, on a CPU the model was faster without (docs/training-speed.md)"
    )
    assert not args.use_liger_kernel and "(Liger Kernel's can't be used: no GPU)" in lines[0]
    assert decide()[1][0] == "loss: this project's own, without the logits"
    assert decide(torch_compile=True)[0].torch_compile


@pytest.mark.parametrize(
    ("version", "fault"), [("0.8.5", None), ("1.0", None), ("0.10.0", None), ("0.6.2", "older than 0.8.5")]
)
def test_the_version_of_liger_counts(monkeypatch, version, fault):
    monkeypatch.setattr(liger.metadata, "version", lambda _: version)
    assert (liger.missing() or "").endswith(fault or "") and bool(liger.missing()) == bool(fault)
