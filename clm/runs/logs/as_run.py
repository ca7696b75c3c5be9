"""A log in the place of a run's folder, for what reads those."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clm.runs.logs.log import Log
from clm.runs.record import RunRecord


def record_of(log: Log, told: Mapping[str, Any], sequences_per_step: int | None, total_steps: int | None) -> RunRecord:
    """The record of a run of which a log is all there is.

    Args:
        told: what is known of its recipe; unknown keys are left out.
    """
    curve = log.curve
    pairs = (("loss", curve.train_steps, curve.train_losses), ("eval_loss", curve.steps, curve.losses))
    rows = [
        {"step": int(step), key: float(loss)}
        for key, steps, losses in pairs
        for step, loss in zip(steps, losses, strict=True)
    ]
    evaluated = [row for row in rows if "eval_loss" in row]
    return RunRecord(
        folder=Path(log.name),
        state="finished" if total_steps and curve.last_step >= total_steps else "unknown",
        reason="",
        step=curve.last_step,
        total_steps=total_steps,
        log=sorted(rows, key=lambda row: row["step"]),
        histories=[],
        recipe=dict(told),
        identity={"sequences_per_step": sequences_per_step, "vocab_size": told.get("vocab_size")},
        trained={},
        metrics=min(evaluated, key=lambda row: row["eval_loss"], default={}),
        data={},
        environment={},
        energy={},
        samples=[],
    )
