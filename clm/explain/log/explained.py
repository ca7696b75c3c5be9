"""A log explained with all that is known of its run; what can't be said for want of a key names that key."""

from collections.abc import Sequence
from typing import Any

from clm.errors import UserError
from clm.explain import explain, sections
from clm.explain.ending import forecast_lines
from clm.explain.explain import FEWEST_LOSSES
from clm.explain.faults import checks
from clm.explain.faults.evidence import Evidence
from clm.explain.floor import floor_of, guessed_bytes_per_token, least_loss_of
from clm.explain.forecast import Forecast, forecast
from clm.explain.log.given import ALL, BATCH, SCHEDULE, Given
from clm.explain.perplexity import perplexity
from clm.explain.scaling import usual_learning_rate
from clm.runs.curve import Curve
from clm.runs.logs.log import Known, Log
from clm.training.schedule import FOLLOWS_THE_LOSS

TYPICAL_VOCABULARY = 50_257  # GPT-2's, for a guess at bytes a token


def known_of(given: Given) -> Known:
    """What the reader of a log is told of its run."""
    told = given.recipe.training["logging_steps"] if "logging_steps" in given.given else None
    spacing = round(told * given.steps) if told and told < 1 and given.steps else told
    size = guessed_bytes_per_token(_vocabulary(given))
    return Known(given.vocab_size, int(spacing) if spacing and spacing >= 1 else None, size)


def explain_log(log: Log, given: Given, until: int | None = None) -> dict[str, Any]:
    """Explain a log as a run's folder is explained, at its end or `until` a step.

    `log` and `remarks` say what was read, and `missing` names the keys that more could be said with.

    Raises:
        UserError: it has too few losses, or its steps go beyond the run's.
    """
    curve = log.curve.until(until) if until else log.curve
    known = len(curve.train_losses) + len(curve.losses)
    if known < FEWEST_LOSSES:
        raise UserError(f"{log.name}: {known} losses{f' until step {until:,}' if until else ''} are no curve yet")
    if given.steps and log.curve.last_step > 1.01 * given.steps + 1:
        raise UserError(
            f"{log.name}: its steps go to {log.curve.last_step:,}, but the run has {given.steps:,} (max_steps): are "
            "they optimizer steps, and not seconds, samples or batches of an accumulation?"
        )
    if not len(curve.losses):
        given.recipe.training["eval_strategy"] = "no"
    setup = given.setup
    shown = _evidence(curve, given, log.lost_at if until is None or (log.lost_at or 0) <= until else None)
    explained = explain.explain_curve(setup, curve, shown, not log.assumed) if setup else _partly(curve, given, shown)
    remarks = [*log.remarks, *_assumptions(given, log, curve)]
    read = {"key": "read", "title": "What was read", "lines": remarks}
    _in_own_unit(explained, log)
    return explained | {
        "log": log.name,
        "remarks": remarks,
        "missing": given.missing,
        "sections": [read, *explained["sections"]],
    }


def _partly(curve: Curve, given: Given, shown: Evidence) -> dict[str, Any]:
    """What can be said without the keys that are missing."""
    step, loss, kind = explain.latest(curve)
    made, found = explain.end_of(curve, given.steps, shown.lost_at) or _forecast(curve, given), checks.find(shown)
    sentence = f"Whether {loss:.2f} is normal can't be said without {_asked(given.lacks(*ALL))}."
    end = forecast_lines(made) if made else [_why_no_forecast(curve, given)]
    parts = (
        ("meaning", f"What a {kind} loss of {loss:.2f} means", [sections.perplexity_line(loss)]),
        ("normal", "Is it normal?", [sentence]),
        ("end", "Where it will end", end),
        ("findings", "What is wrong", sections.findings_lines(found, step)),
    )
    return {
        "step": step,
        "loss": loss,
        "kind": kind,
        "recipe": str(given.recipe.path),
        "dataset_tokens": given.text.tokens if given.text else None,
        "dataset_tokens_from": given.text.tokens_from if given.text else None,
        "verdict": {"label": "can't say", "sentence": sentence, "confidence": "keys are missing"},
        "forecast": explain.forecast_as_json(made),
        "band": None,
        "what_if": [],
        "advice": [],
        "findings": found,
        "numbers": {"perplexity": perplexity(loss)},
        "sections": [{"key": key, "title": title, "lines": lines} for key, title, lines in parts],
    }


def _forecast(curve: Curve, given: Given) -> Forecast | None:
    law, floor = given.law, floor_of(curve, least_loss_of(guessed_bytes_per_token(_vocabulary(given))), 0.0)
    return forecast(curve, law, given.facts, floor=floor) if law and curve.last_step < given.steps else None


def _vocabulary(given: Given) -> int:
    return given.vocab_size or TYPICAL_VOCABULARY


def _why_no_forecast(curve: Curve, given: Given) -> str:
    if lacking := given.lacks(*SCHEDULE):
        return f"Can't say without {_asked(lacking)}."
    if given.recipe.training["lr_scheduler_type"] in FOLLOWS_THE_LOSS:
        return "Can't say: the schedule follows the loss."
    return "The run is finished." if curve.last_step >= given.steps else "Can't say: the curve is too short for it."


def _asked(keys: Sequence[str]) -> str:
    return ", ".join(f"--{key} …" for key in keys)


def _evidence(curve: Curve, given: Given, lost_at: float | None) -> Evidence:
    setup, facts, text = given.setup, given.facts, given.text
    sequences = None if given.lacks("block_size", BATCH) else given.sequences_per_step
    return Evidence(
        curve=curve,
        vocab_size=given.vocab_size,
        unigram=text.unigram_entropy if text else None,
        tokens_per_step=setup.tokens_per_step if setup else sequences and sequences * given.recipe.data.block_size,
        tokens_per_epoch=text.tokens if text else None,
        accumulation=None,
        peak_rate=facts.peak_rate,
        usual_rate=usual_learning_rate(facts.parameters) if facts.parameters else None,
        lost_at=lost_at,
    )


def _assumptions(given: Given, log: Log, curve: Curve) -> list[str]:
    said = []
    if given.steps_are_the_logs:
        said.append(f"The log says that the run has {given.steps:,} steps.")
    if given.assumed:
        said.append(f"Not given, so taken as usual: {', '.join(given.assumed)}.")
    if given.text is None:
        said.append("No length of the text is given (--dataset_tokens N): it counts as never repeated.")
    if not len(curve.losses):
        said.append("There are no validation losses: what is said is of the training loss.")
    if given.missing:
        said.append(f"More can be said with {_asked(given.missing)} (or with a file of them, --config F.json).")
    return said


def _in_own_unit(explained: dict[str, Any], log: Log) -> None:
    """Say the forecast in the log's own unit too, where that isn't nats."""
    made = explained["forecast"]
    unit = log.own_units.get(made["of"]) if made else None
    if unit is None:
        return
    made["in_own_unit"] = {"unit": unit.name, **{key: unit.of(value) for key, value in made["final"].items()}}
    shown = made["in_own_unit"]
    line = f"In {unit.name}, as the log has it: {shown['loss']:.3f}, {shown['low']:.3f} to {shown['high']:.3f}."
    next(part for part in explained["sections"] if part["key"] == "end")["lines"].insert(1, line)
