"""Estimates of memory: held against the tensors that a forward pass really keeps, and against sums by hand."""

from dataclasses import replace

import pytest
import torch

from clm.config.recipe import ModelOptions, load
from clm.model import attention
from clm.model.gpt2 import fresh_model
from clm.plan import devices, memory, page, plan
from clm.plan.devices import Device
from clm.plan.memory import Memory, Shape
from tests.data.small import wide_tokenizer
from tests.tiny import ROOT

# 12 x 768 with 32,000 ids and blocks of 1,024.
SMALL = Shape(
    parameters=110_418_432,
    blocks=85_054_464,
    matrices=84_934_656,
    n_layer=12,
    n_embd=768,
    vocab_size=32_000,
    block_size=1024,
    batch=4,
    accumulation=1,
    optim="adamw_torch_fused",
    bf16=True,
    dropout=False,
    activation_checkpointing=False,
)


def kept_bytes(n_layer: int, bf16: bool, dropout: float, width: int = 64, checkpointing: bool = False) -> int:
    """Bytes of the distinct tensors that autograd keeps of a forward pass over 4 x 128 tokens, weights left out."""
    options = ModelOptions(
        n_layer=n_layer, n_head=4, n_embd=width, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=0.0
    )
    model = fresh_model(options, 128, wide_tokenizer(300)).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    kept = {weight.untyped_storage().data_ptr(): None for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    ids = torch.arange(4 * 128).remainder(300).view(4, 128)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(input_ids=ids, labels=ids)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values() if tensor is not None)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("bf16", [True, False])
def test_a_block_keeps_what_is_assumed_of_it(bf16, dropout, monkeypatch):
    monkeypatch.setattr(attention, "AMX", False)  # with it, a block keeps what attention gives only once
    tokens, width = 4 * 128, 64
    a_block = (kept_bytes(4, bf16, dropout) - kept_bytes(2, bf16, dropout)) / 2
    copies = 2 * 12 * width**2 * bf16  # of the weights; `weights` counts them
    assumed = memory.BLOCK_BYTES[bf16] + 2 * memory.DROPOUT_BYTES[bf16] * (dropout > 0)
    # LayerNorm's and attention's statistics are a few numbers a token: less at real widths.
    assert (a_block - copies) / (tokens * width) == pytest.approx(assumed, abs=0.6)


def test_what_is_kept_around_the_blocks_and_for_the_head():
    around = 2 * kept_bytes(2, True, 0.0) - kept_bytes(4, True, 0.0) - 4 * 300 * 64  # but for the head's gradient
    assert around / (4 * 128 * 64) == pytest.approx(memory.EMBEDDING_BYTES, abs=0.6)


def test_checkpointed_blocks_keep_their_inputs_only():
    more = kept_bytes(4, True, 0.0, checkpointing=True) - kept_bytes(2, True, 0.0, checkpointing=True)
    assert more / 2 / (4 * 128 * 64) == pytest.approx(4, abs=0.2)


def test_one_process_by_hand():
    need = memory.one_process(SMALL)
    assert need.weights == 4 * 110_418_432 + 2 * 84_934_656
    assert need.gradients == 4 * 110_418_432 and need.optimizer == 8 * 110_418_432
    assert need.activations == 4096 * 768 * (38 * 12 + 8)
    assert need.loss == 12 * 2**18 + 2 * 2**26 + 8 * 32_000 * 768
    # benchmarks/results/train.json has 4,324 MB for this shape, of them 347 after imports, on a CPU.
    assert need.total == pytest.approx(4.324e9, rel=0.03)


def test_muon_has_one_state_for_the_matrices_of_the_blocks():
    need = memory.one_process(replace(SMALL, optim="muon"))
    assert need.optimizer == 4 * 84_934_656 + 8 * (110_418_432 - 84_934_656)
    assert memory.one_process(replace(SMALL, optim="sgd")).optimizer == 0


def test_sharding_by_hand():
    ddp, fsdp2, zero2 = (of(SMALL, 8) for of in (memory.ddp, memory.fsdp2, memory.zero2))
    p, around = 110_418_432, 110_418_432 - 85_054_464 + 85_054_464 / 6
    assert ddp.gradients == 8 * p and ddp.optimizer == 8 * p
    assert fsdp2.weights == 4 * p / 8 + 2 * around and fsdp2.optimizer == p
    assert fsdp2.gradients == 4 * p / 8 + 2 * around
    assert memory.fsdp2(replace(SMALL, accumulation=2), 8).gradients == 4 * p / 8 + 4 * p
    assert (zero2.weights, zero2.gradients, zero2.optimizer) == (2 * p, 2 * p / 8, 4 * p / 8 + p)
    assert ddp.activations == fsdp2.activations == zero2.activations


def test_what_to_turn_on_where_it_does_not_fit():
    need = memory.ddp(SMALL, 8).total
    assert memory.fits(memory.ddp(SMALL, 8), need / memory.USABLE) and not memory.fits(memory.ddp(SMALL, 8), need)
    assert memory.remedy(SMALL, 8, 4.5e9) == ["per_device_train_batch_size 2"]
    one = replace(SMALL, batch=1)
    assert memory.remedy(one, 8, 3.6e9) == ["activation_checkpointing true"]
    assert memory.remedy(one, 8, 2.2e9) == ["launch with recipes/accelerate/fsdp2.yaml"]
    assert memory.remedy(one, 8, 1.2e9) is None


def test_a_total_is_the_sum_and_the_process():
    assert Memory(1, 2, 3, 4, 5).total == 15 + memory.PROCESS_BYTES


def test_a_gpu_holds_more_logits_at_once_than_a_cpu():
    # 10 bytes for each of 4,096 x 32,000 logits, 1.3 GB; a CPU holds 12 x 2^18 + 2 x 2^26 bytes.
    shape = replace(SMALL, batch=4, block_size=1024, vocab_size=32_000, bf16=True)
    more = memory.one_process(replace(shape, gpu_memory=80e9)).loss - memory.one_process(shape).loss
    assert more == 10 * 4096 * 32_000 - (12 * 2**18 + 2 * 2**26)


@pytest.mark.parametrize(
    ("device", "buffers"),
    [
        (devices.by_name("h100"), 10 * 4096 * 32_000),
        (Device("this CPU", 1e12, 24e9, 0.6), 12 * 2**18 + 2 * 2**26),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_plan_is_of_its_device_and_says_for_which_micro_batch(device, buffers):
    made = plan.make(load(ROOT / "recipes/wt103.json", {"bf16": True}), device=device)
    assert made.launches["one process"].memory.loss == buffers + 8 * 32_000 * 768
    said = page.plan_page(made)
    assert "for micro-batches of 4\n" in said
    assert "micro-batch: the recipe leaves it open: a CPU takes 4; on a GPU the run tries more" in said
    closed = load(ROOT / "recipes/wt103.json", {"per_device_train_batch_size": 8})
    assert "for micro-batches of 8\n" in page.plan_page(plan.make(closed, device=device))
    assert "micro_batch" not in plan.make(closed, device=device).notes
