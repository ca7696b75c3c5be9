"""The loss with teachers equals the plain one: value and gradients, on every way that a batch is cut."""

import math
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clm.config.recipe import ModelOptions
from clm.data.blocks import IGNORED
from clm.model import chunks
from clm.model import loss as loss_module
from clm.model.distillation import Teachers
from clm.model.flops import flops_per_token
from clm.model.gpt2 import from_config, model_config
from clm.model.loss import summed_cross_entropy

VOCAB = 50
TINY = ModelOptions(n_layer=1, n_head=2, n_embd=8, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
WIDE = ModelOptions(n_layer=2, n_head=2, n_embd=12)


@pytest.fixture(autouse=True, params=["cpu", "cuda"])
def cut(request, monkeypatch):
    """Chunks as a CPU has them or as a GPU has, of 16 rows of 50 logits; tensors are on the CPU either way."""
    monkeypatch.setattr(chunks, "CPU_ELEMENTS", VOCAB * 16)
    monkeypatch.setattr(chunks, "CPU_GROUP_ELEMENTS", VOCAB * 32)
    monkeypatch.setattr(chunks, "CPU_TILE", 16)
    monkeypatch.setattr(chunks, "CUDA_ELEMENTS", 64 * 20)
    monkeypatch.setattr(chunks, "TILE", 16)
    as_on = partial(chunks.chunks, request.param, memory=10**9)
    monkeypatch.setattr(loss_module, "of_device", lambda device, tokens, vocab_size: as_on(tokens, vocab_size))


def gpt2(seed: int, options: ModelOptions = TINY):
    """Random weights, far enough apart that predictions differ."""
    torch.manual_seed(seed)
    model = from_config(model_config(options, block_size=17, vocab_size=VOCAB, end_of_text=0)).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(30)
    return model


@pytest.fixture
def batch():
    """51 tokens, of whose labels 46 count."""
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randint(0, VOCAB, (2, 3, 17), generator=generator)
    labels[0, :5] = IGNORED
    return inputs, labels


def plain(student, teachers, weight, inputs, labels):
    """The definition, with all logits of all models: nats a label."""
    log_probs = student(inputs).logits.log_softmax(-1)
    with torch.no_grad():
        soft = sum(teacher(inputs).logits.softmax(-1) for teacher in teachers) / len(teachers)
    counted = labels != IGNORED
    hard = torch.nn.functional.one_hot(labels.masked_fill(~counted, 0), VOCAB)
    mixed = weight * soft + (1 - weight) * hard
    return -(mixed * log_probs).sum(-1)[counted].mean()


def gradients(student, loss):
    return torch.autograd.grad(loss, list(student.parameters()))


def ours(student, teachers, weight, inputs, labels):
    student.teachers = Teachers(teachers, weight)
    loss = student(inputs, labels=labels).loss
    student.teachers = None
    return loss


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_value_and_gradients_equal_the_plain_loss(batch, weight, count):
    student, teachers = gpt2(0), [gpt2(1), gpt2(2, WIDE), gpt2(3)][:count]
    mine, theirs = ours(student, teachers, weight, *batch), plain(student, teachers, weight, *batch)
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    for one, other in zip(gradients(student, mine), gradients(student, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_it_is_the_mixture_of_the_teachers_loss_and_the_labels(batch):
    student, teacher = gpt2(0), gpt2(1)
    of_labels, of_teacher = student(batch[0], labels=batch[1]).loss, ours(student, [teacher], 1.0, *batch)
    assert ours(student, [teacher], 0.25, *batch).item() == pytest.approx(
        0.25 * of_teacher.item() + 0.75 * of_labels.item(), rel=1e-6
    )


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn(batch):
    student = gpt2(0)
    loss = ours(student, [gpt2(0), gpt2(0)], 1.0, *batch)
    probs = student(batch[0]).logits.softmax(-1)[batch[1] != IGNORED]
    assert loss.item() == pytest.approx(-(probs * probs.log()).sum(-1).mean().item(), rel=1e-5)  # its own entropy
    assert max(gradient.abs().max() for gradient in gradients(student, loss)) < 1e-6


def test_two_micro_batches_add_up_to_one(batch):
    student, teachers, (inputs, labels) = gpt2(0), [gpt2(1)], batch
    student.teachers = Teachers(teachers, 0.5)
    whole = gradients(student, student(inputs, labels=labels, num_items_in_batch=46).loss)
    parts = [gradients(student, student(inputs[at], labels=labels[at], num_items_in_batch=46).loss)
             for at in (slice(0, 1), slice(1, 3))]  # fmt: skip
    for one, *others in zip(whole, *parts, strict=True):
        torch.testing.assert_close(one, sum(others), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_under_autocast_value_and_gradients_are_near(batch, dtype, near):
    student, teachers = gpt2(0), [gpt2(1), gpt2(2)]
    with torch.autocast("cpu", dtype=dtype):
        mine = ours(student, teachers, 0.5, *batch)
    theirs = plain(student, teachers, 0.5, *batch)
    assert mine.dtype == torch.float32 and mine.item() == pytest.approx(theirs.item(), rel=near)
    one, other = (torch.cat([g.flatten() for g in gradients(student, loss)]) for loss in (mine, theirs))
    assert (one - other).norm() < near * other.norm()


def test_teachers_are_not_trained_not_saved_and_have_no_dropout(batch):
    student, teacher = gpt2(0), gpt2(1)
    student.teachers = Teachers([teacher], 1.0)
    names = {name for name, _ in gpt2(0).named_parameters()}
    assert {name for name, _ in student.named_parameters()} == names and student.state_dict().keys() >= names
    student.train()
    student(batch[0], labels=batch[1]).loss.backward()
    assert not teacher.training and all(weight.grad is None for weight in teacher.parameters())


def test_rows_that_do_not_count_may_hold_anything(batch):
    student, (_, labels) = gpt2(0), batch
    head, states = student.lm_head.weight, torch.randn(3, 17, 8, requires_grad=True)

    def wanted(rows, ids):
        soft = torch.full((len(ids), VOCAB), 1 / VOCAB)
        return soft.masked_fill((labels.flatten()[rows] == IGNORED)[:, None], 0)

    loss = summed_cross_entropy(states, head, labels, wanted)
    wild = states.detach().clone().masked_fill((labels == IGNORED)[..., None], math.nan).requires_grad_()
    again = summed_cross_entropy(wild, head, labels, wanted)
    assert again.item() == loss.item()
    for one, other in zip(
        torch.autograd.grad(again, (wild, head)), torch.autograd.grad(loss, (states, head)), strict=True
    ):
        assert torch.equal(one, other)


class Widest(TorchDispatchMode):
    """Notes how many rows of logits a tensor has at most."""

    rows = rows_of_probabilities = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run it and look at what comes out."""
        out = func(*args, **kwargs or {})
        if isinstance(out, torch.Tensor) and out.dim() and out.shape[-1] in (VOCAB, 64):
            rows = out.numel() // out.shape[-1]
            self.rows = max(self.rows, rows)
            if "softmax" in str(func):
                self.rows_of_probabilities = max(self.rows_of_probabilities, rows)
        return out


def test_the_logits_of_no_model_are_ever_all_there(batch):
    student, teachers = gpt2(0), [gpt2(1), gpt2(2)]
    with Widest() as seen:
        ours(student, teachers, 0.5, *batch).backward()
    assert 0 < seen.rows <= 32  # of 51: the group whose gradients go into one matmul
    assert seen.rows_of_probabilities == 4  # a quarter of a chunk
    with Widest() as seen:
        plain(student, teachers, 0.5, *batch)
    assert seen.rows == 51


def test_teachers_forward_passes_are_a_third_of_a_training_step():
    # 2 N + 2 n_layer n_embd block_size for each of the two; N leaves the 17 x 8 positions out.
    teacher = gpt2(1)
    in_matmuls = sum(weight.numel() for weight in teacher.parameters()) - 17 * 8
    assert Teachers([teacher, teacher], 0.5).flops_per_token(17) == 2 * (2 * in_matmuls + 2 * 1 * 8 * 17)
    assert flops_per_token(in_matmuls, 1, 8, 17) == 6 * in_matmuls + 6 * 1 * 8 * 17


def test_a_compiled_student_has_the_same_loss(batch):
    student, (inputs, labels) = gpt2(0), batch
    student.teachers = Teachers([gpt2(1), gpt2(2)], 0.5)
    expected = student(inputs, labels=labels).loss
    compiled = torch.compile(student, backend="aot_eager")(inputs, labels=labels).loss
    assert compiled.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(gradients(student, compiled), gradients(student, expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
