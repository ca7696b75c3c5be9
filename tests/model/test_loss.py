"""The chunked loss equals the plain one: value and gradients, in fp32 and under autocast."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from clm.data.blocks import IGNORED
from clm.model import chunks
from clm.model import loss as loss_module
from clm.model.loss import summed_cross_entropy, token_losses


@pytest.fixture(autouse=True, params=["cpu", "cuda"])
def cut(request, monkeypatch):
    """Chunks as a CPU has them or as a GPU has, of 16 rows of 50 logits; tensors are on the CPU either way."""
    monkeypatch.setattr(chunks, "CPU_ELEMENTS", 50 * 16)
    monkeypatch.setattr(chunks, "CPU_GROUP_ELEMENTS", 50 * 32)
    monkeypatch.setattr(chunks, "CPU_PIECE_ELEMENTS", 50 * 5)
    monkeypatch.setattr(chunks, "CPU_TILE", 16)
    monkeypatch.setattr(chunks, "CUDA_ELEMENTS", 64 * 20)  # of which one tile
    monkeypatch.setattr(chunks, "TILE", 16)
    as_on = partial(chunks.chunks, request.param, memory=10**9)
    monkeypatch.setattr(loss_module, "of_device", lambda device, tokens, vocab_size: as_on(tokens, vocab_size))
    return as_on(tokens=51, vocab_size=50)


def test_the_batches_below_are_cut(cut):
    assert cut in (chunks.Chunks(16, 5, 32, 50, in_place=False), chunks.Chunks(16, 16, 16, 64, in_place=True))


def inputs(dtype=torch.float32):
    """51 rows, of which 46 count."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 17, 8, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(50, 8, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(0, 50, (3, 17), generator=generator)
    labels[0, :5] = IGNORED
    return hidden, weight, labels


def plain(hidden, weight, labels):
    logits = (hidden @ weight.t()).float()
    return F.cross_entropy(logits.reshape(-1, 50), labels.reshape(-1), reduction="sum", ignore_index=IGNORED)


def test_value_and_gradients_equal_the_plain_loss():
    hidden, weight, labels = inputs()
    ours, theirs = summed_cross_entropy(hidden, weight, labels) / 46, plain(hidden, weight, labels) / 46
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for mine, other in zip(
        torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(theirs, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_a_second_pass_back_is_refused():
    hidden, weight, labels = inputs()
    loss = summed_cross_entropy(hidden, weight, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):  # it would scale the same tensor again
        loss.backward()


def test_gradients_are_right_in_double_precision():
    hidden, weight, labels = inputs(torch.float64)
    theirs = F.cross_entropy((hidden @ weight.t()).reshape(-1, 50), labels.reshape(-1), reduction="sum")
    ours = summed_cross_entropy(hidden, weight, labels)
    mine, other = torch.autograd.grad(ours, hidden)[0], torch.autograd.grad(theirs, hidden)[0]
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_under_autocast_the_matmuls_are_bf16_and_the_sum_is_fp32():
    hidden, weight, labels = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = summed_cross_entropy(hidden, weight, labels)
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(plain(hidden, weight, labels).item(), rel=5e-3)
    grad = torch.autograd.grad(ours, weight)[0]
    assert grad.dtype == torch.float32
    expected = torch.autograd.grad(plain(hidden, weight, labels), weight)[0]
    torch.testing.assert_close(grad, expected, rtol=0.05, atol=0.05)


def test_a_batch_without_labels_costs_nothing_and_pulls_nothing():
    hidden, weight, labels = inputs()
    loss = summed_cross_entropy(hidden, weight, torch.full_like(labels, IGNORED))
    assert loss.item() == 0 and all((g == 0).all() for g in torch.autograd.grad(loss, (hidden, weight)))


def test_token_losses_are_each_labels_own():
    hidden, weight, labels = inputs()
    expected = F.cross_entropy(
        (hidden @ weight.t()).reshape(-1, 50), labels.reshape(-1), reduction="none", ignore_index=IGNORED
    )
    torch.testing.assert_close(token_losses(hidden, weight, labels), expected.detach().reshape(3, 17))


def test_rows_that_do_not_count_may_hold_anything():
    hidden, weight, labels = inputs()
    expected = torch.autograd.grad(summed_cross_entropy(hidden, weight, labels), (hidden, weight))
    wild = hidden.detach().clone()
    wild[labels == IGNORED] = float("nan")
    loss = summed_cross_entropy(wild.requires_grad_(), weight, labels)
    for mine, other in zip(torch.autograd.grad(loss, (wild, weight)), expected, strict=True):
        assert torch.equal(mine, other)


def of_scaled_fp16(hidden, weight, labels, by=2.0**16):
    """Gradients by the mean loss, as a GradScaler's scale of `by` brings them about in fp16."""
    with torch.autocast("cpu", dtype=torch.float16):
        loss = summed_cross_entropy(hidden, weight, labels) / len(labels)
    return [grad / by for grad in torch.autograd.grad(loss * by, (hidden, weight))]


def test_in_fp16_a_probability_of_a_hundred_millionth_has_its_gradient():
    # Two ids: the logits of each row are x and -x, and so the second's probability is exp(-18) = 1.5e-8.
    hidden = torch.full((64, 1), 3.0, requires_grad=True)
    weight = torch.tensor([[3.0], [-3.0]], requires_grad=True)
    labels = torch.zeros(64, dtype=torch.int64)
    _, of_weight = of_scaled_fp16(hidden, weight, labels)
    assert of_weight[1].item() == pytest.approx(3 * 1.523e-8, rel=0.05)


def test_a_probability_of_0_in_fp32_has_its_nats_all_the_same():
    hidden = torch.tensor([[1.0], [60.0], [2.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    losses = [summed_cross_entropy(hidden[:rows], weight, torch.ones(rows, dtype=torch.int64)) for rows in (1, 2, 3)]
    # log(1 + exp(2 x)) is what -x costs beside x.
    assert torch.stack(losses).tolist() == pytest.approx([2.1269, 2.1269 + 120, 2.1269 + 120 + 4.0181], abs=1e-4)
    losses[-1].backward()
    assert hidden.grad[1].item() == pytest.approx(2)


def test_in_fp16_a_sum_over_many_tokens_does_not_overflow(monkeypatch):
    # Ids that are as likely as each other, and 16,384 times the same label: the sum is 0.5 x 16,384 x 12 = 98,304.
    monkeypatch.setattr(chunks, "CUDA_ELEMENTS", 2**27)
    monkeypatch.setattr(chunks, "CPU_GROUP_ELEMENTS", 2**27)
    hidden, weight = torch.full((2**14, 1), 12.0, requires_grad=True), torch.zeros(2, 1, requires_grad=True)
    _, of_weight = of_scaled_fp16(hidden, weight, torch.zeros(2**14, dtype=torch.int64))
    assert of_weight.tolist() == [[-6.0], [6.0]]


def test_in_fp16_value_and_gradients_are_near_those_in_fp32():
    hidden, weight, labels = inputs()
    with torch.autocast("cpu", dtype=torch.float16):
        ours = summed_cross_entropy(hidden, weight, labels)
    theirs = plain(hidden, weight, labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=5e-4)
    for mine, other in zip(
        torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(theirs, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=5e-3, atol=5e-3)
