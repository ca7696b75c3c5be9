"""The gradient noise scale against its definition, and in a run."""

import json
from pathlib import Path

import pytest
import torch

from clm.training.callbacks.noise_scale import GradientNoiseScale
from tests.tiny import run, write_recipe


def test_it_finds_the_noise_scale_of_gradients_that_are_made():
    # One token's gradient is G + noise; |G|^2 = 4 and tr(S) = 100 x 9, so that B_simple = 225.
    chance = torch.Generator().manual_seed(0)
    weights = torch.nn.Parameter(torch.zeros(100))
    true, scale = torch.full((100,), 0.2), GradientNoiseScale()
    for _ in range(600):
        small, rest = (true + 3 * torch.randn(100, generator=chance) / n**0.5 for n in (64, 448))
        weights.grad = small * 64 / 512
        scale.first_micro_batch([weights], tokens=64, share=64 / 512)
        scale.full_step(float(((64 * small + 448 * rest) / 512).norm()), tokens=512)
    assert scale.tokens() == pytest.approx(225, rel=0.2)


def test_a_run_with_accumulation_logs_it_and_one_without_does_not(workplace):
    write_recipe(max_steps=24, gradient_accumulation_steps=4, eval_steps=24, save_steps=24)
    assert run() == 0
    write_recipe(max_steps=24, gradient_accumulation_steps=1, eval_steps=24, save_steps=24, output_dir="one")
    assert run() == 0
    logged = [
        [entry for entry in json.loads(Path(out, "trainer_state.json").read_text())["log_history"] if "loss" in entry]
        for out in ("out", "one")
    ]
    assert all("gradient_noise_scale" not in entry for entry in [*logged[0][:19], *logged[1]])
    scale = logged[0][-1].get("gradient_noise_scale")
    assert scale is None or scale > 0  # so few steps may not tell the signal from the noise
