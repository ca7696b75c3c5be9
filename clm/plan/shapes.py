"""Shapes for a budget of FLOPs or parameters: layers, width and heads, with the loss to expect of each and its time."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from clm.config.recipe import Recipe
from clm.errors import UserError
from clm.explain import references
from clm.explain.forecast import NORMAL_QUANTILE
from clm.explain.scaling import TOKENS_PER_PARAMETER, usual_learning_rate
from clm.explain.setup import Setup, of_recipe
from clm.model.flops import flops_per_token
from clm.numbers import duration, large
from clm.plan.devices import Device, assumptions

HEAD = 64  # of GPT-2 and GPT-3: the width of a head
# Widths for each layer. Within these the loss hardly depends on it: Kaplan et al. 2020 (arXiv 2001.08361), figure 5.
ASPECTS = (32, 64, 128)
WIDTHS = tuple(HEAD * n for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40))
EPOCHS = 40.0  # at most: beyond, repetition is worth little (Muennighoff et al. 2023)
NEAR = 0.15  # how far from the parameters that were asked for
MOST = 8  # shapes to show


@dataclass(frozen=True)
class Shape:
    """A candidate. Loss and its standard deviation in nats a token; `covered`: reference runs are near."""

    n_layer: int
    n_embd: int
    n_head: int
    parameters: int
    tokens: int
    epochs: float
    flops: float
    seconds: float
    loss: float
    sd: float
    covered: bool


def for_budget(
    recipe: Recipe,
    device: Device,
    flops: float | None = None,
    parameters: float | None = None,
    dataset_tokens: int | None = None,
) -> list[Shape]:
    """The shapes that a budget allows, in the set-up of a recipe otherwise, the lowest expected loss first.

    Args:
        device: what one would train on.
        flops: of the whole training; what a shape doesn't use for its size it uses for tokens.
        parameters: of the model; without `flops`, 20 tokens are trained on for each.
        dataset_tokens: of the training text; by default what the recipe tells.

    Raises:
        UserError: no shape fits, or nothing tells how long the text is.
    """
    setup, rate = of_recipe(recipe, dataset_tokens), device.flops * device.utilisation
    shapes = []
    for candidate in _candidates(setup):
        size = candidate.parameters
        if parameters and abs(size / parameters - 1) > NEAR:
            continue
        of_token = flops_per_token(size - _positions(candidate), *_shape(candidate), setup.block_size)
        tokens = flops / of_token if flops else TOKENS_PER_PARAMETER * size
        steps = round(tokens / setup.tokens_per_step)
        if steps >= 1 and tokens <= EPOCHS * setup.text.tokens:
            shapes.append(_expected(candidate, steps, steps * setup.tokens_per_step, of_token, rate))
    if not shapes:
        asked = " and ".join(f"{value:.3g} {name}" for name, value in _asked(flops, parameters))
        raise UserError(f"plan: no shape for {asked} on {large(setup.text.tokens)} tokens of text: ask for less")
    return sorted(shapes, key=lambda shape: shape.loss)[:MOST]


def _asked(flops: float | None, parameters: float | None) -> list[tuple[str, float]]:
    return [(name, value) for name, value in (("FLOPs", flops), ("parameters", parameters)) if value]


def _candidates(setup: Setup) -> Iterator[Setup]:
    """The set-up in every shape, each once."""
    for n_embd in WIDTHS:
        for n_layer in sorted({max(1, round(n_embd / aspect)) for aspect in ASPECTS}):
            model = replace(setup.recipe.model, n_layer=n_layer, n_embd=n_embd, n_head=n_embd // HEAD, n_inner=None)
            yield replace(setup, recipe=replace(setup.recipe, model=model))


def _shape(setup: Setup) -> tuple[int, int]:
    return setup.recipe.model.n_layer, setup.recipe.model.n_embd


def _positions(setup: Setup) -> int:
    return setup.block_size * setup.recipe.model.n_embd


def _expected(setup: Setup, steps: int, tokens: int, of_token: float, rate: float) -> Shape:
    """The learning rate is the usual one for the size, not the recipe's, which was chosen for another."""
    law = setup.law(steps)
    if law is None:
        raise UserError(f"{setup.recipe.path}: its schedule follows the loss, which isn't known before a run")
    situation = setup.situation(law, peak_rate=usual_learning_rate(setup.non_embedding_parameters))
    made = references.model().expect(situation, steps)
    n_layer, n_embd = _shape(setup)
    return Shape(
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=setup.recipe.model.n_head,
        parameters=setup.parameters,
        tokens=tokens,
        epochs=tokens / setup.text.tokens,
        flops=tokens * of_token,
        seconds=tokens * of_token / rate,
        loss=made.loss,
        sd=made.sd,
        covered=made.covered,
    )


def shapes_table(shapes: list[Shape], recipe: Recipe, device: Device) -> str:
    """The shapes as a table for the terminal, the lowest loss first."""
    rows = [("n_layer", "n_embd", "n_head", "parameters", "tokens", "epochs", "FLOPs", "time", "loss", "80 %")]
    for shape in shapes:
        low, high = shape.loss - NORMAL_QUANTILE * shape.sd, shape.loss + NORMAL_QUANTILE * shape.sd
        note = f"{low:.2f} to {high:.2f}" + ("" if shape.covered else ", far from any reference run")
        sizes = (str(shape.n_layer), str(shape.n_embd), str(shape.n_head), large(shape.parameters), large(shape.tokens))
        ends = (f"{shape.epochs:.2g}", f"{shape.flops:.1e}", duration(shape.seconds), f"{shape.loss:.2f}", note)
        rows.append(sizes + ends)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"all else as in {recipe.path}; losses within some hundredths are equal, and all move together (80 % band)",
            f"time: {assumptions(device, 1)['seconds']}",
        ]
    )


def as_json(shapes: list[Shape]) -> list[dict[str, Any]]:
    """The shapes under their names."""
    return [asdict(shape) for shape in shapes]
