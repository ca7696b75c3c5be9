"""The chunked loss equals the plain one: value and gradients, in fp32 and under autocast."""

import pytest
import torch
from torch.nn import functional as F

from clm.data.blocks import IGNORED
from clm.model import loss as loss_module
from clm.model.loss import summed_cross_entropy, token_losses


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 50 * 16)  # 16 rows of 50 logits: several chunks below
    monkeypatch.setattr(loss_module, "GROUP_ELEMENTS", 50 * 32)  # and two groups of them


def inputs(dtype=torch.float32):
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
