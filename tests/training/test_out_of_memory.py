"""A micro-batch for which the memory is too small is halved, and no step is lost or done twice."""

import pytest
import torch

from clm.model.gpt2 import GPT2LMHeadModel
from tests.tiny import history, run, start_processes, write_recipe

BATCH = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2, "max_steps": 5, "save_steps": 5}


@pytest.fixture
def small_memory(monkeypatch):
    """A function: from the call `first` on, a model takes no more than so many sequences."""
    forward = GPT2LMHeadModel.forward

    def on(most, first=1, in_backward=False):
        calls = []

        def limited(model, input_ids=None, labels=None, **kwargs):
            if labels is None:
                return forward(model, input_ids, **kwargs)
            calls.append(len(labels))
            output = forward(model, input_ids, labels, **kwargs)
            if len(labels) > most and len(calls) >= first:
                if not in_backward:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                model.lm_head.weight.register_hook(fails)
            return output

        def fails(gradient):
            if calls[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(GPT2LMHeadModel, "forward", limited)
        return calls

    return on


@pytest.mark.parametrize("how", [{"first": 1}, {"first": 2}, {"first": 6}, {"first": 2, "in_backward": True}], ids=str)
def test_a_micro_batch_that_does_not_fit_is_halved_and_the_losses_stay(workplace, small_memory, capsys, how):
    write_recipe(**BATCH, resid_pdrop=0.0, embd_pdrop=0.0)
    assert run("--output_dir", "plain") == 0
    small_memory(4, **how)
    assert run() == 0
    said = capsys.readouterr().out
    step = (how["first"] + 1) // 2
    assert f"out of memory in step {step}: the run goes on with micro-batches of 8 instead of 16" in said
    assert f"out of memory in step {step}: the run goes on with micro-batches of 4 instead of 8" in said
    assert history("out", "loss") == pytest.approx(history("plain", "loss"), abs=2e-5)
    assert history("out", "grad_norm") == pytest.approx(history("plain", "grad_norm"), rel=1e-4)


def test_with_dropout_it_is_the_run_that_smaller_ones_make(workplace, small_memory):
    write_recipe(**BATCH | {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8})
    assert run("--output_dir", "plain") == 0
    write_recipe(**BATCH)
    small_memory(4, first=2)
    assert run() == 0
    assert history("out", "loss") == pytest.approx(history("plain", "loss"), abs=2e-5)


def test_a_single_sequence_that_does_not_fit_is_an_error(workplace, small_memory, capsys):
    write_recipe(**BATCH)
    small_memory(0)
    assert run() == 74
    assert "out of memory: lower per_device_train_batch_size" in capsys.readouterr().err


# One of two processes has memory for 4 sequences only, as its backward pass finds out. Each step is one micro-batch of
# 12 in each.
RANK = """
import os, sys, torch
import run_clm
from clm.model.gpt2 import GPT2LMHeadModel

forward = GPT2LMHeadModel.forward

def limited(model, input_ids=None, labels=None, **kwargs):
    output = forward(model, input_ids, labels, **kwargs)
    if labels is not None and os.environ["RANK"] == "1" and len(labels) > 4:
        handle = model.transformer.h[0].attn.c_attn.weight.register_hook(lambda gradient: fails(handle))
    return output

def fails(handle):
    handle.remove()
    raise torch.OutOfMemoryError("CUDA out of memory")

GPT2LMHeadModel.forward = limited
sys.exit(run_clm.main(["--config", "tiny.json", "--output_dir", "two"]))
"""


def test_a_process_whose_memory_is_too_small_goes_on_alone_with_smaller_ones(workplace):
    sizes = {"per_device_train_batch_size": 12, "gradient_accumulation_steps": None, "global_batch_size": 24}
    write_recipe(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, max_steps=12, save_steps=12, eval_steps=12)
    assert run("--output_dir", "one") == 0
    both = start_processes(RANK, 2)
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    line = "process 1: out of memory in step 1: the run goes on with micro-batches of {} instead of {}; the batch of"
    assert line.format(6, 12) in said[1][0] and line.format(3, 6) in said[1][0]
    assert said[1][0].count("out of memory") == 2 and "out of memory" not in said[0][0]
    assert history("two", "loss") == pytest.approx(history("one", "loss"), abs=2e-5)
    assert history("two", "grad_norm") == pytest.approx(history("one", "grad_norm"), rel=1e-4)
