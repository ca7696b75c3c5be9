"""How many kernels a GPU would be asked for: the code that runs there, counted on FakeTensors, which hold no data."""

import math
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from clm.model import loss as loss_module
from clm.model.chunks import chunks
from clm.model.loss import summed_cross_entropy
from tests.launches import Launches

as_on_an_h100 = partial(chunks, "cuda", memory=80 * 2**30)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Batches are cut as on a GPU; without one autograd takes no tensor of its device, not even a fake one."""
    monkeypatch.setattr(loss_module, "of_device", lambda device, *size: as_on_an_h100(*size))


def of_loss(tokens: int, vocab_size: int) -> Launches:
    """What the loss of a micro-batch and its gradients ask of a GPU in bf16."""
    with FakeTensorMode():
        hidden = torch.empty(4, tokens // 4, 768, requires_grad=True)
        weight = torch.empty(vocab_size, 768, requires_grad=True)
        labels = torch.empty(4, tokens // 4, dtype=torch.int64)
        with Launches() as asked:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = summed_cross_entropy(hidden, weight, labels) / 4096
            torch.autograd.grad(loss, (hidden, weight))
    assert asked.by_op["mm"] == 3 * math.ceil(tokens / as_on_an_h100(tokens, vocab_size).rows)
    return asked


@pytest.mark.parametrize(
    ("tokens", "vocab_size", "most"), [(4096, 32_000, 40), (4096, 50_257, 60), (16384, 32_000, 100)]
)
def test_the_loss_takes_few_kernels_and_asks_for_no_number(tokens, vocab_size, most):
    asked = of_loss(tokens, vocab_size)
    assert asked.launches <= most, asked.by_op
    assert asked.host_reads == 0, asked.reads_by_op


def test_no_pass_over_the_logits_is_for_labels_that_do_not_count():
    asked = of_loss(4096, 32_000)
    # A matmul, the copy to fp32 and the log-softmax of it, exp, and a number a row: that is all over 4,096 x 32,000.
    assert asked.by_op["_log_softmax"] == asked.by_op["exp"] == asked.by_op["scatter_"] == 1
    assert asked.by_op["index_put_"] == asked.by_op["where"] == asked.by_op["amax"] == 0


def counted(work) -> tuple[int, int]:
    """Launches and host reads of it."""
    with Launches() as asked:
        work()
    return asked.launches, asked.host_reads


def test_the_counter_knows_views_copies_and_lists():
    matrix = torch.ones(4, 4)
    assert counted(lambda: matrix.t()[1:].unsqueeze(0)) == (0, 0)
    assert counted(lambda: torch.empty(3)) == (0, 0)
    assert counted(lambda: matrix + 1) == counted(lambda: matrix @ matrix) == (1, 0)
    assert counted(lambda: torch.addmm(matrix, matrix, matrix)) == (2, 0)  # the summand is copied
    assert counted(lambda: torch.addmm(matrix[0], matrix, matrix)) == (1, 0)  # a bias isn't
    lists, others = ([torch.ones(4, 4) for _ in range(100)] for _ in range(2))
    assert counted(lambda: torch._foreach_add_(lists, 1)) == (1, 0)
    assert counted(lambda: torch._foreach_add_(lists, others)) == (2, 0)  # 64 pairs at a time
    assert counted(lambda: torch._foreach_add_(lists, [one.t() for one in others])) == (100, 0)
    large = torch.ones(321, 65_536)
    assert counted(lambda: torch._foreach_add_([large], 1)) == (2, 0)  # 320 chunks of 65,536 at a time
    assert counted(lambda: torch.stack(lists)) == (1, 0)


def test_the_counter_sees_every_wait_for_the_device():
    values = torch.tensor([1.0, 0.0])
    assert counted(lambda: values.sum().item()) == (1, 1)
    assert counted(lambda: bool(values[0] > 0)) == (1, 1)
    assert counted(lambda: values.nonzero())[1] == 1
    assert counted(lambda: values[values > 0])[1] == 1
    zero = torch.zeros(())
    assert counted(lambda: values.index_put_((values > 0,), zero)) == (2, 0)  # fills, and needn't know how many
    assert counted(lambda: torch.equal(values, values))[1] == 1
    with FakeTensorMode():
        on_gpu = torch.empty(2, device="cuda")
        assert counted(lambda: on_gpu.cpu()) == (1, 1)
        assert counted(lambda: on_gpu.to("cpu", non_blocking=True)) == (1, 0)
        assert counted(lambda: torch.empty(2).copy_(on_gpu)) == (1, 1)
        with Launches() as asked, pytest.raises(Exception, match="_local_scalar_dense"):
            on_gpu.sum().item()
        assert asked.host_reads == 1
