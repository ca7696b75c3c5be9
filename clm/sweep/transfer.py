"""What a sweep's values become in a larger recipe: rules for width, batch and length, each with its source.

docs/sweeps.md says what was tested here, and how well it held.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clm.config.recipe import Recipe, load, merge, read_object
from clm.config.training_keys import DEFAULT_OPTIMIZER
from clm.errors import UserError
from clm.explain.setup import of_recipe
from clm.files import write_json
from clm.numbers import brief
from clm.sweep.definition import Sweep, tokens_per_step
from clm.sweep.findings import Findings

WIDTH_POWER = -1.0  # of the learning rate, under
WIDTH_SOURCES = dict.fromkeys(
    ("adamw_torch_fused", "adamw_torch"),
    "Yang et al. 2022 (muP, arXiv 2203.03466): Adam's rate of a weight matrix goes as 1/width",
) | {
    "muon": "as AdamW's, which it takes over where the size of its updates is matched to AdamW's: Liu et al. 2025 "
    "(arXiv 2502.16982)"
}
DEPTH = (
    -0.5,
    "Yang, Yu, Zhu & Hayou 2023 (arXiv 2310.02244): Adam's rate goes as 1/sqrt(layers), in transformers only roughly",
)
BATCH_POWER = 0.5  # of the tokens
BATCH_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps", "global_batch_size")
SAME = (
    "optim", "warmup_steps", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "lr_scheduler_type",
    "activation_function", "initializer_range", "layer_norm_epsilon", "weight_decay_epochs",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A key of the larger recipe: its own value, the new one (None: left as it is), and the reason."""

    key: str
    before: Any
    after: Any
    reason: str


@dataclass(frozen=True)
class Size:
    """What the rules look at: width, layers, tokens in a step, steps, and the optimizer."""

    width: int
    layers: int
    batch: int
    steps: int
    optim: str

    @property
    def tokens(self) -> int:
        """Of the whole run."""
        return self.batch * self.steps


def write(sweep: Sweep, found: Findings, target: Recipe) -> tuple[Path, list[Change]]:
    """Write the larger recipe with the values found into the sweep's folder.

    Raises:
        UserError: the two have different optimizers, or nothing tells how long the larger run is.
    """
    small = sweep.recipe(found.best.params)
    changed = changes(small, target, found.best.params)
    new = {change.key: change.after for change in changed if change.after is not None}
    said = "; ".join(f"{change.key} {brief(change.after)}" for change in changed if change.after is not None)
    about = (
        f"{target.path} with what {sweep.path} found, by the rules of docs/sweeps.md: {said or 'nothing'}; not tried"
    )
    path = sweep.output_dir / f"{target.path.stem}-scaled.json"
    raw = merge(read_object(target.path), new)
    write_json(path, raw | {"about": about})
    load(path)
    return path, changed


def changes(small: Recipe, target: Recipe, values: dict[str, Any]) -> list[Change]:
    """What becomes of each of the `values` found with the `small` recipe."""
    optim = values.get("optim", target.training.get("optim", DEFAULT_OPTIMIZER))
    ours, theirs = _size(small, small.training["max_steps"]), _size(target, of_recipe(target).total_steps, optim)
    if ours.optim != theirs.optim:
        raise UserError(
            f"{target.path}: its optim is {theirs.optim}, the sweep's {ours.optim}, and their rates say nothing of "
            "each other: sweep with the same one, or vary optim"
        )
    changed = []
    if varied := [key for key in BATCH_KEYS if key in values]:
        theirs, change = _batch(ours, theirs, target)
        changed += [change, *(Change(key, None, None, "part of the batch") for key in varied if key != change.key)]
    rate = target.training["learning_rate"]
    if "learning_rate" in values:
        changed.append(_learning_rate(ours, theirs, values["learning_rate"], rate))
        rate = changed[-1].after or rate
    if "weight_decay" in values:
        changed.append(_weight_decay(ours, theirs, small, target, rate))
    done = {*BATCH_KEYS, "learning_rate", "weight_decay"}
    return changed + [_other(key, value, target) for key, value in values.items() if key not in done]


def _size(recipe: Recipe, steps: int, optim: str | None = None) -> Size:
    optim = optim or recipe.training.get("optim", DEFAULT_OPTIMIZER)
    return Size(recipe.model.n_embd, recipe.model.n_layer, tokens_per_step(recipe), steps, optim)


def _batch(ours: Size, theirs: Size, target: Recipe) -> tuple[Size, Change]:
    """Batch as the square root of the tokens of the whole run."""
    tokens = ours.batch * (theirs.tokens / ours.tokens) ** BATCH_POWER
    device = target.micro_batch()
    sequences = device * max(1, round(tokens / target.data.block_size / device))
    new = sequences * target.data.block_size
    reason = (
        f"{ours.batch:,} tokens a step of {ours.tokens:,} in all become {new:,} of {theirs.tokens:,}: the critical "
        "batch goes as about the square root of the tokens (Zhang et al. 2024, arXiv 2410.21676; Bergsma et al. "
        "2025, arXiv 2505.13738)"
    )
    size = replace(theirs, batch=new, steps=max(1, round(theirs.tokens / new)))
    return size, Change("global_batch_size", theirs.batch // target.data.block_size, sequences, reason)


def _learning_rate(ours: Size, theirs: Size, found: float, before: float) -> Change:
    """By the width, the depth, and the square root of the batch."""
    if ours.optim not in WIDTH_SOURCES:
        return Change("learning_rate", before, None, f"there is no rule for {ours.optim}")
    source = WIDTH_SOURCES[ours.optim]
    rate, reasons = found, []
    for factor, what in (
        ((theirs.width / ours.width) ** WIDTH_POWER, f"{theirs.width} instead of {ours.width} wide ({source})"),
        ((theirs.layers / ours.layers) ** DEPTH[0], f"{theirs.layers} instead of {ours.layers} layers ({DEPTH[1]})"),
        (
            math.sqrt(theirs.batch / ours.batch),
            f"{theirs.batch:,} instead of {ours.batch:,} tokens a step (Malladi et al. 2022, arXiv 2205.10287)",
        ),
    ):
        rate *= factor
        reasons += [f"x {factor:.3g} for {what}"] if factor != 1 else []
    return Change("learning_rate", before, float(f"{rate:.3g}"), " ".join([brief(found), *reasons]))


def _weight_decay(ours: Size, theirs: Size, small: Recipe, target: Recipe, rate: float) -> Change:
    """So that the weights remember the same share of the run."""
    decay, own = small.training["weight_decay"], small.training["learning_rate"]
    scaled = decay * own * ours.steps / (rate * theirs.steps)
    reason = (
        f"rate x decay x steps stays {own * decay * ours.steps:.3g}: weights are averages over the last 1/(rate x "
        "decay) steps (Wang & Aitchison 2024, arXiv 2405.13698), the same share of the run"
    )
    return Change("weight_decay", target.training.get("weight_decay"), float(f"{scaled:.3g}"), reason)


def _other(key: str, value: Any, target: Recipe) -> Change:
    before = target.resolved().get(key)
    if key in SAME and not (key == "warmup_steps" and value >= 1):
        return Change(key, before, value, "has no size in it")
    return Change(key, before, None, "depends on the size in ways for which there is no rule: the larger recipe's own")


def transfer_page(path: Path, changed: list[Change]) -> str:
    """What was written, and why."""
    lines = [""]
    for change in changed:
        after = "left as it is" if change.after is None else f"{brief(change.before)} -> {brief(change.after)}"
        lines.append(f"{change.key}: {after}; {change.reason}")
    lines.append(
        "Not applied: longer runs tend to want lower rates (Bjorck et al. 2024, arXiv 2409.19913). Try half of it, too."
    )
    return "\n".join([*lines, str(path)])
