"""A loss explained, of a recipe or a run: what it means, whether it is normal, where it ends, what would help."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from clm.config.recipe import Recipe
from clm.errors import UserError
from clm.explain import normal, outlook, sections
from clm.explain.advice.advise import advise
from clm.explain.faults import checks, level_faults, single_loss
from clm.explain.faults.evidence import Evidence
from clm.explain.faults.refusal import refusal
from clm.explain.floor import least_loss
from clm.explain.forecast import LEVEL, Forecast
from clm.explain.scaling import usual_learning_rate
from clm.explain.setup import Setup, of_recipe, of_run
from clm.numbers import number
from clm.runs.curve import Curve
from clm.runs.record import RunRecord

FEWEST_LOSSES = 4  # of a run, before its curve is one
UNSURE_UNIT = normal.Verdict(
    "can't say",
    "Whether this is normal can't be said: the losses are in bits per byte, and how many bytes a token has is assumed.",
    "no unit",
)


def explain_recipe(recipe: Recipe, step: int, loss: float, dataset_tokens: int | None = None) -> dict[str, Any]:
    """Explain a training loss that a run of this recipe shows at a step; no run is needed.

    Raises:
        UserError: the loss isn't one, the run has no such step, or nothing tells how long the text is.
    """
    setup = of_recipe(recipe, dataset_tokens)
    micro_batch = recipe.micro_batch() * setup.block_size
    if refused := refusal(loss, setup.tokens_per_step, micro_batch, setup.vocab_size):
        raise UserError(f"--loss {loss:g}: {refused}")
    if not 1 <= step <= setup.total_steps:
        raise UserError(f"--step {step:,}: a run of {recipe.path} has steps 1 to {setup.total_steps:,}")
    verdict = normal.verdict(setup, step, loss, of_training=True)
    found = single_loss.find(setup, step, loss, verdict.expectation)
    first, least = checks.comes_first(found), least_loss(setup)
    made = None if first else outlook.of_loss(setup, step, loss)
    end = (setup.total_steps, made.final[0]) if made else (step, loss)
    given = [] if first else advise(setup, *end, least=least)
    what_if = [] if first else [each for each in outlook.what_if_of_recipe(setup, *end) if each.loss >= least]
    return {
        "step": step,
        "loss": loss,
        "kind": "training",
        **_common(setup, verdict),
        "forecast": forecast_as_json(made),
        "band": normal.band(setup, step, of_training=True),
        "what_if": [vars(each) for each in what_if],
        "advice": given,
        "findings": found,
        "numbers": sections.numbers(setup, step, loss, "training"),
        "sections": sections.all_of(setup, step, loss, "training", verdict, made, what_if, given, found, True),
    }


def explain_run(run: RunRecord) -> dict[str, Any]:
    """Explain a run, finished or not.

    Raises:
        UserError: its folder has no recipe or no saved state, or its curve is too short.
    """
    setup = of_run(run)
    curve = of_labels(run.curve, setup)
    if not run.histories:
        raise UserError(f"{run.folder}: the run has saved no state yet: no trainer_state.json, here or in a checkpoint")
    known = len(curve.train_losses) + len(curve.losses)
    if known < FEWEST_LOSSES:
        key = "eval_steps, for a run with teachers" if setup.recipe.run.teachers else "logging_steps"
        raise UserError(f"{run.folder}: {known} losses are no curve yet: log at least {FEWEST_LOSSES} ({key})")
    return explain_curve(setup, curve, evidence(setup, curve, run.histories))


def explain_curve(setup: Setup, curve: Curve, shown: Evidence, unit_is_sure: bool = True) -> dict[str, Any]:
    """Explain a run by its curve, of FEWEST_LOSSES at least.

    Args:
        shown: what the checks for faults look at.
        unit_is_sure: whether the losses are in nats a token for certain; if not, there is no verdict.
    """
    step, loss, kind = latest(curve)
    verdict = normal.verdict(setup, step, loss, kind == "training") if unit_is_sure else UNSURE_UNIT
    note = level_faults.validation_below(shown, setup.dropout)
    found = checks.find(shown)
    first = checks.comes_first(found)
    made = end_of(curve, setup.total_steps, shown.lost_at) or (None if first else outlook.of_run(setup, curve))
    end = made.final[0] if made else loss
    what_if = [] if first else outlook.what_if_of_run(setup, curve, loss, end)
    own = {each.title: -each.change for each in what_if}
    given = [] if first else advise(setup, setup.total_steps, loss, curve.noise_scale, own=own)
    return {
        "step": step,
        "loss": loss,
        "kind": kind,
        **_common(setup, verdict),
        "forecast": forecast_as_json(made),
        "band": normal.band(setup, setup.total_steps, kind == "training") if unit_is_sure else None,
        "what_if": [vars(each) for each in what_if],
        "advice": given,
        "findings": found,
        "numbers": sections.numbers(setup, step, loss, kind) | {"gradient_noise_scale": curve.noise_scale},
        "sections": [
            {**section, "lines": section["lines"] + [note]} if note and section["key"] == "normal" else section
            for section in sections.all_of(setup, step, loss, kind, verdict, made, what_if, given, found)
        ],
    }


def standing(setup: Setup, log_history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The verdict on a run's newest validation loss, the forecast and what is wrong; None where there is no such loss.

    As JSON: `step`, `loss`, `verdict` (its label), `band` ([low, high] or None), `forecast` ({"loss", "low",
    "high"} or None), `total_steps` and `findings` (names).
    """
    curve = of_labels(Curve.of(log_history), setup)
    if not len(curve.losses):
        return None
    step, loss = int(curve.steps[-1]), float(curve.losses[-1])
    verdict = normal.verdict(setup, step, loss, of_training=False)
    found = checks.find(evidence(setup, curve))
    made = None if checks.comes_first(found) else outlook.of_run(setup, curve)
    return {
        "step": step,
        "loss": loss,
        "verdict": verdict.label,
        "band": None if verdict.label == normal.CANT_SAY else list(verdict.expectation.band),
        "forecast": None if made is None else dict(zip(("loss", "low", "high"), made.final, strict=True)),
        "total_steps": setup.total_steps,
        "findings": [fault["name"] for fault in found],
    }


def history(run: RunRecord, most: int = 24) -> list[dict[str, Any]]:
    """`standing` at the evaluations of a run, as it was said then; at so many of them, the first and last included."""
    setup, log = of_run(run), run.log
    places = [place for place, entry in enumerate(log, 1) if number(entry.get("eval_loss")) is not None]
    chosen = {round(i * (len(places) - 1) / max(1, min(most, len(places)) - 1)) for i in range(min(most, len(places)))}
    found = (standing(setup, log[: places[i]]) for i in sorted(chosen))
    return [stands for stands in found if stands]


def standing_line(stands: Mapping[str, Any]) -> str:
    """What `standing` says, in one line."""
    parts = [f"verdict: {stands['verdict']}"]
    if stands["band"]:
        low, high = stands["band"]
        parts = [f"verdict: {stands['verdict']} what such a run shows by now, {low:.2f} to {high:.2f}"]
    if stands["forecast"]:
        final, low, high = stands["forecast"].values()
        parts.append(f"on course for {final:.2f} ({low:.2f} to {high:.2f}) at step {stands['total_steps']:,}")
    if stands["findings"]:
        parts.append(f"it shows {', '.join(stands['findings'])}")
    return "; ".join(parts)


def verdict_line(setup: Setup, log_history: Sequence[Mapping[str, Any]]) -> str | None:
    """The verdict on a run's newest validation loss in one line; None where there is none."""
    stands = standing(setup, log_history)
    return standing_line(stands) if stands else None


def evidence(setup: Setup, curve: Curve, histories: Sequence[Sequence[dict[str, Any]]] = ()) -> Evidence:
    """What the checks for faults look at."""
    return Evidence(
        curve=curve,
        vocab_size=setup.vocab_size,
        unigram=setup.text.unigram_entropy,
        tokens_per_step=setup.tokens_per_step,
        tokens_per_epoch=setup.text.tokens,
        accumulation=max(1, setup.sequences_per_step // setup.recipe.micro_batch()),
        peak_rate=setup.peak_rate,
        usual_rate=usual_learning_rate(setup.non_embedding_parameters),
        histories=histories,
    )


def of_labels(curve: Curve, setup: Setup) -> Curve:
    """The losses that are nats of the labels. With teachers the training losses aren't: their target is a mixture."""
    return curve.without_training() if setup.recipe.run.teachers else curve


def latest(curve: Curve) -> tuple[int, float, str]:
    """Step, loss and kind of what a curve ends with; a training loss is a mean of some."""
    if len(curve.losses):
        return int(curve.steps[-1]), float(curve.losses[-1]), "validation"
    return int(curve.train_steps[-1]), float(curve.train_losses[-5:].mean()), "training"


def end_of(curve: Curve, total_steps: int | None, lost_at: float | None = None) -> Forecast | None:
    """What a finished run ended at; None for one that isn't finished, or ended in losses that aren't finite."""
    step, loss, kind = latest(curve)
    finished = total_steps is not None and curve.last_step >= total_steps and lost_at is None
    return Forecast.measured(step, loss, kind) if finished else None


def _common(setup: Setup, verdict: normal.Verdict) -> dict[str, Any]:
    text = setup.text
    return {
        "recipe": str(setup.recipe.path),
        "dataset_tokens": None if text.never_repeated else text.tokens,
        "dataset_tokens_from": text.tokens_from,
        "verdict": {"label": verdict.label, "sentence": verdict.sentence, "confidence": verdict.confidence},
    }


def forecast_as_json(made: Forecast | None) -> dict[str, Any] | None:
    """`final` (`loss`, `low`, `high`), `level`, what it is `of` and `by`, `outside_the_evidence`, and the `curve`."""
    if made is None:
        return None
    rows = zip(made.steps, made.losses, made.low, made.high, strict=True)
    curve = [[int(step), *(round(float(value), 4) for value in values)] for step, *values in rows]
    final = dict(zip(("loss", "low", "high"), made.final, strict=True))
    about = {"level": LEVEL, "of": made.of, "by": made.by, "outside_the_evidence": list(made.outside)}
    return {"final": final, **about, "curve": curve}


def explanation_page(explained: dict[str, Any]) -> str:
    """The explanation as a page for the terminal."""
    lines = [f"{explained.get('log') or explained['recipe']}, step {explained['step']:,}"]
    for section in explained["sections"]:
        lines += ["", section["title"].upper()]
        lines += [_wrapped(line) for line in section["lines"]]
    return "\n".join(lines)


def _wrapped(line: str) -> str:
    return fill(line, 110, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
