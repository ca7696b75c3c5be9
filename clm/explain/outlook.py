"""Where a run will end, and where it would if it were another: twice as long, with another schedule or batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from clm.config.optim_args import embeddings_rate
from clm.explain import references
from clm.explain.floor import floor_of, least_loss
from clm.explain.forecast import NORMAL_QUANTILE, Facts, Forecast, Law, forecast
from clm.explain.forecast.facts import largeness
from clm.explain.forecast.outside import strange_optimizer
from clm.explain.scaling import REPEATED_EPOCHS, critical_batch_tokens
from clm.explain.setup import Setup
from clm.runs.curve import Curve

COSINE = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "warmup_steps": 0.02}
LARGER_BATCH = 2
MANY_EPOCHS = 10  # of the longest run that is looked at
LOSS_POINTS = 12  # of a forecast from one loss
# What its interval needs in small and in large models to hold about 80 % of the ends of left-out runs
# (calibration/expected.py). Training losses on a small text that repeats itself fall further than validation losses.
LOSS_WIDTHS = 2.2, 1.0
# Reference runs that were made again with one change: dropout of 0.1, no warmup, no weight decay.
PAIRS = {
    "dropout": ("e-1x64-cosine", "w-2x96-cosine", "w-1x64-many-epochs"),
    "no-warmup": ("e-1x64-cosine", "w-2x96-cosine"),
    "no-decay": ("w-2x96-cosine", "w-1x64-many-epochs"),
}


@dataclass(frozen=True)
class Outlook:
    """The final loss of a variant of the run, how much that is above the run's own end, the bounds (None: no interval),
    the variant in words, and what of it is beyond the runs of many epochs.
    """

    title: str
    loss: float
    change: float
    low: float | None = None
    high: float | None = None
    beyond: str | None = None


def of_run(setup: Setup, curve: Curve) -> Forecast | None:
    """The forecast of a run from its curve so far; None where it can't be said."""
    if setup.own_law is None or curve.last_step >= setup.total_steps:
        return None
    return forecast(curve, setup.own_law, facts(setup), _unigram(setup), floor=_floor(setup, curve))


def _unigram(setup: Setup) -> float | None:
    return setup.text.unigram_loss or setup.text.unigram_entropy


def _floor(setup: Setup, curve: Curve) -> float:
    return floor_of(curve, least_loss(setup), curve.last_step * setup.tokens_per_step / setup.text.tokens)


def of_loss(setup: Setup, step: int, loss: float) -> Forecast | None:
    """The forecast of a run of which one training loss is known; None where the references don't reach its end."""
    law, total = setup.own_law, setup.total_steps
    if step >= total:
        return Forecast.measured(step, loss, "training")
    if law is None or total * setup.tokens_per_step > REPEATED_EPOCHS * setup.text.tokens:
        return None
    model, situation = references.model(), setup.situation(law)
    steps = np.unique(np.linspace(step, total, LOSS_POINTS).round().astype(int))
    made = [model.expect_after(situation, (step, loss), float(each), of_training=True) for each in steps]
    if not (made[-1].covered and model.expect(situation, step, of_training=True).covered):
        return None
    losses = np.array([each.loss for each in made])
    half = half_interval_of_loss(setup.non_embedding_parameters, np.array([each.sd for each in made]))
    least = least_loss(setup)
    bounds = (np.maximum(values, least) for values in (losses, losses - half, losses + half))
    outside = (situation.repetition_beyond(total), strange_optimizer(facts(setup)))
    return Forecast(steps, *bounds, "training", tuple(filter(None, outside)), "one loss")


def half_interval_of_loss(parameters: float, sd: float | np.ndarray) -> float | np.ndarray:
    """Half of the 80 % interval, nats, of a forecast from one loss whose standard deviation would be `sd`."""
    (small, large), share = LOSS_WIDTHS, largeness(parameters)
    return NORMAL_QUANTILE * small ** (1 - share) * large**share * sd


def facts(setup: Setup) -> Facts:
    """What the forecast of a run depends on besides its curve."""
    training, tokens = setup.recipe.training, setup.total_steps * setup.tokens_per_step
    return Facts(
        parameters=setup.non_embedding_parameters,
        tokens=tokens,
        steps=setup.total_steps,
        optimizer=training.get("optim", "adamw"),
        peak_rate=setup.peak_rate,
        epochs=1.0 if setup.text.never_repeated else max(1.0, tokens / setup.text.tokens),
        text=setup.text_name,
        dropout=setup.dropout,
        weight_decay=setup.weight_decay,
        embeddings=embeddings_rate(training),
    )


def variants(setup: Setup, loss: float, noise_scale: float | None, steps: int) -> list[tuple[str, Law, dict[str, Any]]]:
    """What else the run could be: in words, its law, and what changes in its situation.

    Args:
        loss: now, which sets the critical batch where the noise scale isn't measured.
        steps: of the run that is varied.
    """
    critical = noise_scale or critical_batch_tokens(min(max(loss, 2.0), 8.0))
    batch = setup.tokens_per_step
    worth = (1 + critical / batch) / (1 + critical / (LARGER_BATCH * batch))
    varied = [(f"twice the steps ({2 * steps:,})", setup.law(2 * steps), {})]
    if not setup.text.never_repeated:
        longer = round(MANY_EPOCHS * setup.text.tokens / batch)
        if longer >= 2 * steps:
            varied.append((f"{MANY_EPOCHS} epochs ({longer:,})", setup.law(longer), {}))
    if not decays(setup):
        varied.append(("cosine decay to a tenth instead", setup.law(steps, **COSINE), {}))
    larger = setup.law(steps, batch=LARGER_BATCH, worth=worth)
    varied.append((f"a batch {LARGER_BATCH} times as large, as many steps", larger, {"batch": LARGER_BATCH}))
    return [each for each in varied if each[1] is not None]


def what_if_of_run(setup: Setup, curve: Curve, loss: float, end: float) -> list[Outlook]:
    """The variants of a run, forecast from its own curve.

    Args:
        loss: now.
        end: what the run itself ends at, as far as that is known.
    """
    rows, floor = [], _floor(setup, curve)
    for title, law, changes in variants(setup, loss, curve.noise_scale, setup.total_steps):
        made = forecast(curve, setup.own_law, facts(setup), _unigram(setup), instead=law, floor=floor)
        if made is not None:
            middle, low, high = made.final
            beyond = setup.situation(law, **changes).repetition_beyond(law.total_steps)
            rows.append(Outlook(title, middle, middle - end, low, high, beyond))
    return rows


def what_if_of_recipe(setup: Setup, steps: int, loss: float) -> list[Outlook]:
    """The variants of a run that has a training loss and no curve: the change that the references let expect.

    Args:
        steps: of the run that is varied.
        loss: at their end.
    """
    own_law = setup.law(steps)
    now = final(setup, own_law, of_training=True) if own_law is not None else None
    if now is None:
        return []
    rows = []
    for title, law, changes in variants(setup, loss, None, steps):
        law = setup.law(steps, batch=LARGER_BATCH) if changes else law  # the expected loss knows the batch's worth
        then = final(setup, law, of_training=True, **changes)
        if then is not None:
            beyond = setup.situation(law, **changes).repetition_beyond(law.total_steps)
            rows.append(Outlook(title, loss + then - now, then - now, beyond=beyond))
    return rows


def final(setup: Setup, law: Law, of_training: bool = False, **changes: Any) -> float | None:
    """The loss that the references let expect at the end of `law`; None where they don't reach."""
    made = references.model().expect(setup.situation(law, **changes), law.total_steps, of_training)
    return made.loss if made.covered else None


def decays(setup: Setup) -> bool:
    """Whether the schedule takes the learning rate down by half or more before it ends."""
    return setup.own_law is None or round(setup.own_law.last_rate, 3) <= 0.5


def pairs(change: str) -> list[tuple[float, float]]:
    """(passes over the text, nats that `change` of PAIRS added to the final validation loss) of each pair of runs."""
    runs = {entry["name"]: entry for entry in references.entries("small_runs.json")}
    rows = []
    for name in PAIRS[change]:
        before, after = runs[name], runs[f"{name}-{change}"]
        recipe = before["recipe"]
        tokens = recipe["max_steps"] * recipe["block_size"] * recipe["per_device_train_batch_size"]
        nats = after["validation"][-1][1] - before["validation"][-1][1]
        rows.append((tokens * recipe["gradient_accumulation_steps"] / before["dataset_tokens"], nats))
    return rows
