"""What a start decides by the device."""

import pytest
import torch
from transformers import TrainingArguments

from clm.config.recipe import load
from clm.launch.start import start
from tests.tiny import write_recipe


def started_on(monkeypatch, device, **changes):
    """The arguments of tiny.json's run whose device is of this type, as far as `start` can see."""
    monkeypatch.setattr(TrainingArguments, "device", property(lambda _: torch.device(device)))
    args, _ = start(load(write_recipe(**changes)))
    return args


@pytest.mark.parametrize(("device", "workers"), [("cuda", 2), ("cpu", 0), ("mps", 0)])
def test_two_workers_make_batches_beside_a_gpu_and_none_elsewhere(workplace, monkeypatch, device, workers):
    assert started_on(monkeypatch, device).dataloader_num_workers == workers


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("asked", [0, 3])
def test_the_recipe_decides_how_many_workers_there_are(workplace, monkeypatch, device, asked):
    assert started_on(monkeypatch, device, dataloader_num_workers=asked).dataloader_num_workers == asked
