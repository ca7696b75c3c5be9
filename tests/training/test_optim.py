"""Muon for the blocks' matrices, AdamW for the rest, in one optimizer."""

import copy

import pytest
import torch
from transformers import GPT2Config

from clm.errors import UserError
from clm.launch import preflight
from clm.launch.start import training_arguments
from clm.model.gpt2 import GPT2LMHeadModel
from clm.training import optim, schedule
from tests.tiny import run, write_recipe

ENDS = {"bos_token_id": 0, "eos_token_id": 0}


def _model_and_arguments(tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=8, n_layer=2, n_head=2, n_embd=16, **ENDS))
    recipe = {"optim": "muon", "learning_rate": 0.01, "weight_decay": 0.5, "adam_beta2": 0.9}
    return model, training_arguments({**recipe, "output_dir": str(tmp_path), "use_cpu": True})


def _give_gradients(model, seed):
    torch.manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)


def test_muon_turns_the_blocks_matrices_and_adamw_moves_the_rest(tmp_path):
    model, args = _model_and_arguments(tmp_path)
    optimizer = optim.MuonAndAdamW(model, args)
    before = copy.deepcopy(model.state_dict())
    _give_gradients(model, 1)
    optimizer.step()
    for name, weight in model.named_parameters():
        decays = weight.ndim == 2
        moved = weight - before[name] * (1 - 0.01 * 0.5 * decays)
        if ".h." in name and decays:  # the gradient's singular values become about 1, the step's RMS about 0.2 x 0.01
            for piece in moved.chunk(3 if "c_attn" in name else 1, dim=1):  # query, key and value each for itself
                singular = torch.linalg.svdvals(piece) / (0.01 * 0.2 * max(piece.shape) ** 0.5)
                assert singular.median() > 0.6 and singular.max() < 1.3, name
        else:  # Adam's first step is the gradient's sign
            assert torch.allclose(moved, -0.01 * weight.grad.sign(), rtol=1e-3, atol=1e-6), name


def test_every_weight_is_in_one_group_and_only_matrices_decay(tmp_path):
    model, args = _model_and_arguments(tmp_path)
    groups = optim.MuonAndAdamW(model, args).param_groups
    taken = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(taken) == sorted(map(id, model.parameters()))
    assert [group["weight_decay"] for group in groups] == [0.5, 0.5, 0.5, 0.0]
    assert all((weight.ndim == 2) == (group["weight_decay"] > 0) for group in groups for weight in group["params"])


def test_a_loaded_state_goes_on_bit_for_bit_and_follows_a_schedule(tmp_path):
    model, args = _model_and_arguments(tmp_path)
    optimizer = optim.MuonAndAdamW(model, args)
    for step in range(2):
        _give_gradients(model, step)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    other = copy.deepcopy(model)
    resumed = optim.MuonAndAdamW(other, args)
    resumed.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for one, its in ((model, optimizer), (other, resumed)):
        schedule = torch.optim.lr_scheduler.LambdaLR(its, lambda step: 0.5)
        assert {group["lr"] for group in its.param_groups} == {0.005}
        _give_gradients(one, 7)
        its.step()
        schedule.step()
    for (name, weight), same in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, same), name
    still = copy.deepcopy(other.state_dict())
    for group in resumed.param_groups:
        group["lr"] = 0.0
    resumed.step()  # the rates in force are those of the optimizer that the schedule sees
    assert all(torch.equal(still[name], weight) for name, weight in other.state_dict().items())


def test_muon_is_refused_where_matrices_are_cut_up(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    preflight.check_optimizer("adamw_torch_fused")
    with pytest.raises(UserError, match="optim muon needs full matrices"):
        preflight.check_optimizer("muon")


def test_muons_momentum_is_torchs_or_optim_args(tmp_path):
    model, args = _model_and_arguments(tmp_path)
    momenta = [group.get("momentum") for group in optim.MuonAndAdamW(model, args).param_groups]
    assert momenta == [0.95, 0.95, None, None]
    assert [group.get("ns_steps") for group in optim.MuonAndAdamW(model, args).param_groups][:2] == [5, 5]
    args.optim_args = "momentum = 0.5, ns_steps = 4"
    optimizer = optim.MuonAndAdamW(model, args)
    weight = model.transformer.h[0].mlp.c_fc.weight
    _give_gradients(model, 1)
    optimizer.step()  # half of the first gradient goes into a mean that starts at 0
    assert torch.allclose(optimizer.state[weight]["momentum_buffer"], 0.5 * weight.grad)
    assert [group.get("ns_steps") for group in optimizer.param_groups][:2] == [4, 4]


@pytest.mark.parametrize(
    ("settings", "tokens", "positions", "vectors"),
    [
        ("positions=0.1", 0.005, 0.0005, 0.005),
        ("embeddings=2", 0.01, 0.01, 0.005),
        ("embeddings=2,positions=0.1,vectors=0.3", 0.01, 0.0005, 0.0015),
    ],
)
def test_embeddings_positions_and_vectors_may_take_shares_of_the_rate(tmp_path, settings, tokens, positions, vectors):
    model, args = _model_and_arguments(tmp_path)
    args.optim_args = settings
    optimizer = optim.MuonAndAdamW(model, args)
    taken = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(taken) == sorted(map(id, model.parameters()))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)  # which halves each group's rate
    embeddings = {model.transformer.wte.weight: tokens, model.transformer.wpe.weight: positions}
    rates = embeddings | {model.transformer.ln_f.bias: vectors, model.transformer.h[1].mlp.c_fc.bias: vectors}
    before = {weight: weight.detach().clone() for weight in rates}
    _give_gradients(model, 1)
    optimizer.step()
    schedule.step()
    for weight, rate in rates.items():  # Adam's first step is the gradient's sign; decay is 0.5, but not of vectors
        expected = before[weight] * (1 - rate * 0.5 * (weight in embeddings)) - rate * weight.grad.sign()
        assert torch.allclose(weight, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("polynomial", {"lr_end": 1e-3, "power": 2.0}), ("cosine_with_min_lr", {"min_lr": 1e-3})],
)
def test_a_schedule_that_ends_at_a_rate_ends_there(tmp_path, kind, options):
    model, args = _model_and_arguments(tmp_path)
    args.optim_args = "embeddings=2"
    optimizer = optim.MuonAndAdamW(model, args)
    following = schedule.scheduler(optimizer, {"lr_scheduler_type": kind, "lr_scheduler_kwargs": options}, 2)
    for _ in range(2):
        optimizer.step()
        following.step()
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([1e-3, 1e-3, 2e-3, 1e-3])  # matrices, query to value, embeddings, vectors


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("nesterov=false", "muon takes momentum, ns_steps, "),
        ("ns_steps=4.5", "it must be a whole number"),
        ("ns_steps=0", "it must be 1 to 99"),
        ("ns_steps=100", "it must be 1 to 99"),
    ],
)
def test_a_setting_that_muon_does_not_take_is_refused(tmp_path, monkeypatch, capsys, settings, said):
    monkeypatch.chdir(tmp_path)
    write_recipe(optim="muon", optim_args=settings)
    assert run() == 2
    error = capsys.readouterr().err
    assert "optim_args" in error and said in error
