"""The figures of docs/scaling.md are what the formulas give."""

import re

import pytest

from clm.model.flops import flops_per_token
from clm.plan.devices import GPUS
from clm.plan.launches import Launch, launches
from clm.plan.memory import Shape
from tests.tiny import ROOT

GUIDE = (ROOT / "docs/scaling.md").read_text("utf-8")
# A device's batch stays the same however many there are.
SHAPES = {
    "12 x 768, 110 M": ((12, 768, 32_000), 32),
    "48 x 1,600, 1.6 B": ((48, 1600, 50_257), 8),
}


def shape_of(n_layer: int, n_embd: int, vocab_size: int, batch: int) -> Shape:
    """A GPT-2 with blocks of 1,024 tokens, one micro-batch a step."""
    matrices = 12 * n_layer * n_embd**2
    blocks = matrices + 13 * n_layer * n_embd
    parameters = blocks + (vocab_size + 1024 + 2) * n_embd
    return Shape(
        parameters=parameters,
        blocks=blocks,
        matrices=matrices,
        n_layer=n_layer,
        n_embd=n_embd,
        vocab_size=vocab_size,
        block_size=1024,
        batch=batch,
        accumulation=1,
        optim="adamw_torch_fused",
        bf16=True,
        dropout=False,
        activation_checkpointing=False,
        gpu_memory=GPUS["h100"].memory,
    )


def ways(name: str, devices: int) -> tuple[float, dict[str, Launch]]:
    """A step's arithmetic in seconds, and the ways to launch it on so many H100."""
    (n_layer, n_embd, vocab_size), batch = SHAPES[name]
    shape, device = shape_of(n_layer, n_embd, vocab_size, batch), GPUS["h100"]
    in_matmuls = shape.parameters - 1024 * n_embd
    flops = shape.tokens * flops_per_token(in_matmuls, n_layer, n_embd, 1024)
    return flops / (device.flops * device.utilisation), launches(shape, device, devices, flops * devices, 1)


def row(name: str, devices: int) -> str:
    """A row of the guide's table."""
    compute, of = ways(name, devices)
    cells = [name, str(devices), f"{compute * 1e3:.0f}"]
    for way in ("ddp", "fsdp2"):
        launch = of[way]
        sent, seconds = launch.communication.sent, launch.communication.seconds
        none, most = compute / (compute + seconds), compute / launch.step_seconds
        cells += [f"{sent / 1e9:.2f}", f"{seconds * 1e3:.1f}", f"{100 * none:.0f} to {100 * most:.0f} %"]
        cells.append(f"{launch.memory.total / 1e9:.1f}")
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("devices", [8, 64, 512])
def test_the_table_of_the_guide(name, devices):
    assert row(name, devices) in GUIDE, row(name, devices)


def test_the_shape_is_the_models_own():
    assert shape_of(12, 768, 32_000, 4).parameters == 110_418_432  # as `clm plan` counts recipes/wt103.json


def test_every_test_that_the_guide_names_exists():
    named = set(re.findall(r"`(tests/\S+\.py)::(\w+)`", GUIDE))
    assert len(named) > 5
    assert [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")] == []
