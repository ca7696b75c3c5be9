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


@pytest.fixture
def card(monkeypatch):
    """An H100 that has everything."""
    monkeypatch.setattr(hardware, "device_type", lambda _: "cuda")
    monkeypatch.setattr(liger, "missing", lambda: None)
    monkeypatch.setattr(liger, "try_out", lambda _: None)


def fails(_):
    raise RuntimeError("Failed to find C compiler.\nPlease specify")


def decide(bf16=True, fp16=False, **changes):
    """The arguments as they are decided, and the lines."""
    requested = {key: value for key, value in changes.items() if key.startswith("torch_compile")}
    compiled = bool(requested.get("torch_compile") or requested.get("torch_compile_mode"))  # as TrainingArguments does
    args = SimpleNamespace(torch_compile=compiled, torch_compile_backend=None, bf16=bf16, fp16=fp16)
    args.device = torch.device("cpu")
    return args, acceleration.choose(args, load(ROOT / "recipes/wt103.json", changes))


def test_compiling_is_found_out_about_where_it_costs_less_than_a_fifth_of_the_run():
    # 12 layers take about 60 s: a fifth of 300.
    assert acceleration.too_short(301, 12) is None
    assert acceleration.too_short(299, 12) == (
        "off: it takes about 60 s to compile, more than 20% of the 299 s that the steps left take without (measured)"
    )


def test_what_was_measured_decides_over_torch_compile():
    pays, line = acceleration.faster(0.2, 0.15)
    assert pays and line == "on: a micro-batch took 150.0 ms with it and 200.0 ms without (measured)"
    assert not acceleration.faster(0.2, 0.195)[0]  # less than 3 % are noise
    assert acceleration.faster(0.2, 0.25)[1].startswith("off: ")


def test_a_measurement_decides_on_any_card_where_nothing_is_asked(card, monkeypatch):
    args, lines = decide()
    assert len(lines) == 1 and not args.torch_compile
    args, lines = decide(deterministic=True)  # a resumed run might be measured otherwise
    assert lines[1].startswith("torch.compile: off: with deterministic true a resumed run has to")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"torch_compile": True}, "on, as the recipe asks"),
        ({"torch_compile_mode": "max-autotune"}, "on, as the recipe asks"),
        ({"torch_compile": False}, "off, as the recipe asks"),
    ],
    ids=str,
)
def test_the_recipe_overrides_the_measurement(card, changes, line):
    args, lines = decide(**changes)
    assert lines[1] == f"torch.compile: {line}" and args.torch_compile is line.startswith("on")


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
