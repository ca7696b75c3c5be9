"""What Apple's GPUs lack, or keep apart: float64, and a random generator of their own."""

from types import SimpleNamespace

import torch

from clm.training.checkpoint import rng
from clm.training.trainer import ClmTrainer


class OnMps:
    """A loss on a device that has no float64."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __sub__(self, other: "OnMps") -> "OnMps":
        return OnMps(self._value - other._value)

    def double(self) -> None:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self) -> torch.Tensor:
        return torch.tensor(self._value)


def test_the_loss_of_a_step_needs_no_float64_on_the_gpu():
    trainer = SimpleNamespace(
        _tr_loss=OnMps(7.0), _loss_before=OnMps(3.0), _group=None, args=SimpleNamespace(world_size=1)
    )
    assert ClmTrainer._step_loss(trainer) == 4.0


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
