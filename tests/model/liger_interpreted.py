"""Liger's loss equals ours, in Triton's interpreter: tests for a process of their own, which test_liger.py starts.

    TRITON_INTERPRET=1 python -m pytest tests/model/liger_interpreted.py

The interpreter has to be chosen before Triton is first imported.
"""

import torch

from clm.config.recipe import ModelOptions
from clm.data.blocks import IGNORED
from clm.model import liger, loss
from clm.model.gpt2 import GPT2LMHeadModel, model_config

TINY = ModelOptions(n_layer=1, n_head=2, n_embd=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def gradients(summed, dtype=torch.float32, rows=37):
    """Value and gradients of the mean loss of some rows of 50 logits, a few of them without a label."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, rows, 16, generator=generator).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).requires_grad_()
    labels = torch.randint(0, 50, (1, rows), generator=generator)
    labels[0, 3:6] = IGNORED
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = summed(hidden, weight, labels)
    assert value.dtype == torch.float32
    (value / (rows - 3)).backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
    return value.detach(), hidden.grad, weight.grad


def test_value_and_gradients_equal_ours():
    for mine, other in zip(gradients(liger.summed_cross_entropy), gradients(loss.summed_cross_entropy), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_under_autocast_they_are_as_near_to_fp32_as_ours():
    exact = gradients(loss.summed_cross_entropy)
    errors = []
    for summed in (liger.summed_cross_entropy, loss.summed_cross_entropy):
        found = zip(gradients(summed, torch.bfloat16), exact, strict=True)
        errors.append([(value - right).norm() / right.norm() for value, right in found])
    for theirs, ours in zip(*errors, strict=True):
        assert theirs < 2 * ours + 1e-4 < 0.02


def steps_gradients(by_liger):
    """Of a step of two micro-batches, one with padding, through the model with its tied head."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(model_config(TINY, block_size=12, vocab_size=60, end_of_text=0))
    model.liger = by_liger
    tokens = torch.randint(0, 60, (2, 3, 13))
    labels = tokens[:, :, 1:].clone()
    labels[1, 2] = IGNORED
    losses = [
        model(inputs, labels=targets, num_items_in_batch=torch.tensor(60)).loss
        for inputs, targets in zip(tokens[:, :, :-1], labels, strict=True)
    ]
    for each in losses:
        each.backward()
    return torch.stack(losses).detach(), *(weight.grad for weight in model.parameters())


def test_a_step_of_two_micro_batches_through_the_model_is_the_same():
    for mine, other in zip(steps_gradients(True), steps_gradients(False), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_it_is_tried_out():
    liger.try_out(torch.device("cpu"))


def test_a_batch_without_labels_costs_nothing_and_pulls_nothing():
    hidden, weight = torch.randn(1, 4, 16).requires_grad_(), torch.randn(50, 16).requires_grad_()
    value = liger.summed_cross_entropy(hidden, weight, torch.full((1, 4), IGNORED))
    value.backward()
    assert value == 0 and not hidden.grad.any() and not weight.grad.any()
