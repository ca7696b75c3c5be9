"""Stacked Muon makes the updates of torch's loop, in one process or several, from few kernels."""

import copy
from unittest.mock import patch

import pytest
import torch
from torch import multiprocessing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Muon
from transformers import GPT2Config

from clm.launch.start import training_arguments
from clm.model import amx
from clm.model.gpt2 import GPT2LMHeadModel
from clm.training import muon, optim
from tests.launches import Launches
from tests.test_processes import RECIPE, same
from tests.tiny import ROOT, launch, muon_in_fp32, run, write_recipe
from tests.training import muon_processes

ENDS = {"bos_token_id": 0, "eos_token_id": 0}


class Loop(muon.PiecewiseMuon):
    """torch's loop, a matrix at a time, as checkpoints of before come from."""

    step = Muon.step


def gpt2(width=16, layers=2, vocab_size=50):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=vocab_size, n_positions=8, n_layer=layers, n_head=2, n_embd=width, **ENDS)
    return GPT2LMHeadModel(config)


def optimizer(model, tmp_path, of=muon.PiecewiseMuon):
    recipe = {"optim": "muon", "learning_rate": 0.01, "weight_decay": 0.5}
    with patch.object(optim, "PiecewiseMuon", of):
        return optim.MuonAndAdamW(model, training_arguments({**recipe, "output_dir": str(tmp_path), "use_cpu": True}))


def step(model, moved_by, seed):
    torch.manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    moved_by.step()


@pytest.mark.parametrize("elements", [2**26, 3 * 16 * 16, 1])
def test_a_step_is_that_of_torchs_loop_bit_for_bit(tmp_path, monkeypatch, elements):
    monkeypatch.setattr(muon, "STACK_ELEMENTS", elements)
    monkeypatch.setattr(muon, "has_bf16", lambda _: True)  # as torch's loop takes it
    stacked, looped = gpt2(), gpt2()
    ours, theirs = optimizer(stacked, tmp_path), optimizer(looped, tmp_path, Loop)
    for seed in range(3):
        step(stacked, ours, seed)
        step(looped, theirs, seed)
    apart = 1e-4 if amx.supported() else 0.0  # AMX adds up a stack's products in another order
    for (name, mine), other in zip(stacked.named_parameters(), looped.parameters(), strict=True):
        assert (mine - other).abs().max() <= apart, name


def test_a_checkpoint_of_the_loop_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(muon, "has_bf16", lambda _: True)
    looped = gpt2()
    theirs = optimizer(looped, tmp_path, Loop)
    step(looped, theirs, 0)
    torch.save(theirs.state_dict(), tmp_path / "optimizer.pt")
    stacked = copy.deepcopy(looped)
    ours = optimizer(stacked, tmp_path)
    ours.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    step(stacked, ours, 1)
    step(looped, theirs, 1)
    assert all(torch.equal(*both) for both in zip(stacked.parameters(), looped.parameters(), strict=True))
    saved, again = theirs.state_dict(), ours.state_dict()
    assert saved["param_groups"] == again["param_groups"] and saved["state"].keys() == again["state"].keys()
    for at, state in saved["state"].items():
        assert {key: value.shape for key, value in state.items()} == {
            key: value.shape for key, value in again["state"][at].items()
        }


def test_what_has_no_gradient_stays_as_it_is(tmp_path):
    model = gpt2()
    ours, before = optimizer(model, tmp_path), copy.deepcopy(model.state_dict())
    ours.step()  # as after a step that is left out for its loss
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items()) and not ours.state


@torch.no_grad()
def averaged(layers, muons):
    """What a step of `muons` would orthogonalise."""
    for weight in layers.weights:
        weight.grad = torch.ones_like(weight)
    return [matrix for group in muons.param_groups for matrix in muons._averaged(group)]


def test_a_gradient_scaler_moves_the_weights_as_without_it_and_leaves_out_what_overflowed(tmp_path):
    scaled, plain = gpt2(), gpt2()
    ours, theirs = optimizer(scaled, tmp_path), optimizer(plain, tmp_path)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))  # which makes its state
    for weight, other in zip(scaled.parameters(), plain.parameters(), strict=True):
        other.grad = torch.randn_like(other)
        weight.grad = 1024 * other.grad
    scaler.step(ours)
    theirs.step()
    assert all(torch.equal(*both) for both in zip(scaled.parameters(), plain.parameters(), strict=True))
    scaler.update()
    scaled.transformer.h[0].mlp.c_fc.weight.grad[0, 0] = float("inf")
    scaler.step(ours)
    assert all(torch.equal(*both) for both in zip(scaled.parameters(), plain.parameters(), strict=True))


def test_a_stack_is_no_larger_than_it_may_be(monkeypatch):
    layers = muon_processes.Layers()
    monkeypatch.setattr(muon, "STACK_ELEMENTS", 2 * 8 * 32)
    matrices = averaged(layers, muon_processes.optimizer(layers))
    stacks = [[tuple(matrix.weight.shape) for matrix in stack] for stack in muon._stacks(matrices)]
    # 8 x 8 alone or as pieces of 8 x 24, 512 elements at most; 8 x 32 and 32 x 8 together, two at a time.
    assert stacks == [
        [(8, 8), (8, 8), (8, 8), (8, 24)],
        [(8, 24), (8, 24)],
        [(8, 32), (8, 32)],
        [(8, 32), (32, 8)],
        [(32, 8), (32, 8)],
    ]


def test_muon_and_adamw_of_twelve_layers_take_few_kernels_and_ask_for_no_number(tmp_path):
    with FakeTensorMode():
        model = gpt2(768, 12, 32_000)
        moved_by = optimizer(model, tmp_path)
        step(model, moved_by, 0)  # which makes the states
        with Launches() as asked:
            moved_by.step()
    assert asked.launches <= 100, asked.by_op  # torch's loop: 2,383
    assert asked.by_op["bmm"] == 2 * 5  # 48 matrices of 768 x 768, and 24 of 768 x 3,072, each five times
    assert asked.host_reads == 0, asked.reads_by_op


@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_processes_share_the_work_and_end_with_the_weights_of_one(tmp_path, processes):
    muon_processes.run(0, 1, str(tmp_path))
    one = torch.load(tmp_path / "rank-0.pt")
    multiprocessing.spawn(muon_processes.run, (processes, str(tmp_path)), nprocs=processes)
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(processes)]
    for (given, batch), (of_given, of_batch) in zip([one] * processes, ranks, strict=True):
        assert all(torch.equal(*both) for both in zip(given, of_given, strict=True))
        for mine, other in zip(batch, of_batch, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    for other in ranks[1:]:
        assert all(torch.equal(*both) for both in zip(ranks[0][1], other[1], strict=True))


@pytest.mark.slow
def test_the_command_trains_in_two_processes_as_in_one(workplace):
    write_recipe(**RECIPE, optim="muon")
    with muon_in_fp32():
        assert run("--output_dir", "one") == 0
    two = ("--multi_gpu", "--num_processes", "2", str(ROOT / "tests/training/muon_processes.py"))
    done = launch(*two, "--config", "tiny.json", ACCELERATE_USE_CPU="true")
    assert done.returncode == 0 and "processes: 2" in done.stdout, done.stderr
    same("out", "one", weights=1e-5)


def test_each_process_orthogonalises_its_share_only(monkeypatch):
    layers = muon_processes.Layers()
    matrices = averaged(layers, muon_processes.optimizer(layers))
    done = []

    def iterate(part, *_):
        done.append(len(part))
        return part

    monkeypatch.setattr(muon, "newton_schulz", iterate)
    monkeypatch.setattr(muon.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(muon.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(muon.distributed, "all_gather_single", lambda everything, part: everything.zero_())
    shares = []
    for rank in range(4):
        monkeypatch.setattr(muon.distributed, "get_rank", lambda rank=rank: rank)
        done.clear()
        assert [len(muon._orthogonalised(stack)) for stack in muon._stacks(matrices)] == [12, 6]
        shares.append(tuple(done))
    assert shares == [(3, 2), (3, 2), (3, 2), (3,)]  # of 12 and of 6; the last has nothing left of the 6


def test_a_card_without_bf16_iterates_in_fp16_whose_small_gradients_are_not_lost(monkeypatch):
    torch.manual_seed(0)
    grads = torch.randn(4, 8)
    updates = {}
    for dtype in (torch.float32, torch.float16):
        monkeypatch.setattr(muon, "dtype_on", lambda _, dtype=dtype: dtype)
        for size in (1, 1e-9):  # the second is 0 in fp16
            weight = torch.nn.Parameter(torch.zeros(4, 8))
            weight.grad = grads * size
            optimizer = muon.PiecewiseMuon([{"params": [weight], "pieces": 1}], lr=1.0, weight_decay=0.0, eps=1e-12)
            optimizer.step()
            updates[dtype, size] = weight.detach()
    for size in (1, 1e-9):
        assert torch.allclose(updates[torch.float16, size], updates[torch.float32, 1], atol=5e-3)


@pytest.mark.parametrize(
    ("device", "without_bf16"), [("cuda", torch.float16), ("cpu", torch.float32), ("mps", torch.bfloat16)]
)
def test_bf16_is_not_emulated(device, without_bf16, monkeypatch):
    for has_bf16, dtype in ((True, torch.bfloat16), (False, without_bf16)):
        monkeypatch.setattr(muon, "has_bf16", lambda _, has=has_bf16: has)
        assert muon.dtype_on(torch.device(device)) == dtype
