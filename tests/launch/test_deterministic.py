"""`deterministic`: what it sets, that a run takes it, and that a run needs no operation that it would stop on a GPU."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clm.launch import hardware
from tests.tiny import run, write_recipe

# Of `torch.use_deterministic_algorithms`' documentation, what raises on a GPU and could come up with text; cumsum only
# of floating point, scatter_reduce only of products.
RAISING = {
    "nll_loss2d_forward",
    "nll_loss2d_backward",
    "ctc_loss",
    "_ctc_loss",
    "_embedding_bag",
    "put",
    "put_",
    "histc",
    "bincount",
    "median",
    "kthvalue",
    "resize_",
    "scatter_reduce",
    "cumsum",
}


@pytest.fixture
def restored() -> Iterator[None]:
    """torch's switches come back as they were."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


class Operations(TorchDispatchMode):
    """The names of all operations, with whether their first tensor is of floating point."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, bool]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        first = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
        self.seen.add((func.overloadpacket.__name__, first is not None and first.is_floating_point()))
        return func(*args, **(kwargs or {}))


def raises_on_a_gpu(operation: tuple[str, bool]) -> bool:
    name, floating = operation
    return name in RAISING and (floating or name != "cumsum")


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon"])
def test_a_run_takes_the_switch_and_needs_nothing_that_it_forbids(workplace, capsys, restored, optim):
    write_recipe(optim=optim, resid_pdrop=0.1, attn_pdrop=0.1, bf16=True)
    with Operations() as operations:
        assert run("--deterministic", "true") == 0
    assert "kernels: deterministic ones only, as the recipe asks\n" in capsys.readouterr().out
    assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    names = {name for name, _ in operations.seen}
    # The forward pass, the backward pass, the step, and samples.
    assert {"embedding", "embedding_dense_backward", "native_layer_norm_backward", "exponential_"} <= names
    assert not list(filter(raises_on_a_gpu, operations.seen))


def test_without_it_torch_chooses(workplace, capsys):
    write_recipe(max_steps=1, eval_strategy="no", load_best_model_at_end=False)
    assert run() == 0
    assert "kernels:" not in capsys.readouterr().out and not torch.are_deterministic_algorithms_enabled()


def test_the_switch_sets_all_that_torch_and_cublas_read(monkeypatch, restored):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    hardware.use_deterministic_kernels()
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # the user's own
    hardware.use_deterministic_kernels()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_without_such_a_kernel_would_be_found():
    raising: Callable[[tuple[str, bool]], bool] = raises_on_a_gpu
    with Operations() as operations:
        torch.ones(3).cumsum(0)
        torch.ones(3, dtype=torch.int64).cumsum(0)
    assert list(filter(raising, operations.seen)) == [("cumsum", True)]
