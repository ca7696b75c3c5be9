"""What Apple's GPUs lack, or keep apart: float64, and a random generator of their own."""

import pytest
import torch

from clm.training.checkpoint import rng
from clm.training.step import read


def test_the_numbers_of_a_step_need_no_float64_on_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "double", lambda _: pytest.fail("MPS has no float64"), raising=False)
    assert read(torch.tensor(7.0) - torch.tensor(3.0), None, 0.5) == [4.0, None, 0.5]


def test_the_generator_of_an_apple_gpu_is_kept(monkeypatch):
    own = [torch.tensor([1, 2], dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: own[0])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: own.__setitem__(0, state))
    kept = rng.get()
    own[0] = torch.tensor([9, 9], dtype=torch.uint8)
    rng.put(kept)
    assert own[0].tolist() == [1, 2]
    rng.put({key: value for key, value in kept.items() if key != "mps"})  # of a checkpoint from before
    assert own[0].tolist() == [1, 2]
