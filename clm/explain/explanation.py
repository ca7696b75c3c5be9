"""explanation.json: a run's explanation, kept in its folder for report, model card and Hub."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from clm.errors import UserError
from clm.explain.explain import explain_run, history, standing, standing_line
from clm.explain.setup import Setup
from clm.files import read_json, write_json
from clm.runs.overview import VERDICT_FILE
from clm.runs.record import RunRecord, read_run

EXPLANATION_FILE = "explanation.json"
# {"verdict": {"label": "below" | "within" | "above" | "can't say", "sentence", "confidence"},
#  "forecast": {"final": {"loss", "low", "high"}, "level", "of": "validation" | "training", "by": "curve" | "one loss" |
#               "measured", "outside_the_evidence": [...], "curve": [[step, loss, low, high], ...]} or None,
#  "band": [[step, low, high], ...] or None, "advice": [{"title", "gain_nats", "cost", "text"}, ...],
#  "findings": [{"name", "text"}, ...], "sections": [{"key", "title", "lines": [...]}, ...],
#  "history": [what clm.explain.explain.standing gives, ...], "made_from", ...}
Explanation = dict[str, Any]
_PARTS = {
    "verdict": dict,
    "forecast": dict | None,
    "band": list | None,
    "advice": list,
    "findings": list,
    "sections": list,
    "history": list,
}


def write_explanation(run_dir: Path) -> Explanation | None:
    """Explain a run and keep that in its folder; None, and nothing is written, where there is nothing to explain yet.

    Raises:
        OSError: the file can't be written.
    """
    try:
        made = made_anew(read_run(run_dir))
    except UserError:
        return None
    keep(run_dir, made)
    return made


def verdict_kept(run_dir: Path, setup: Setup, log_history: Sequence[Mapping[str, Any]]) -> str | None:
    """The verdict on the newest validation loss in a line, and verdict.json with it in `run_dir`, for `clm runs`."""
    stands = standing(setup, log_history)
    if not stands:
        return None
    with suppress(OSError):  # a full disk is no reason to stop training
        write_json(run_dir / VERDICT_FILE, stands)
    return standing_line(stands)


def explanation_of(run: RunRecord) -> Explanation | None:
    """The explanation in a run's folder. Where it is missing, or is of another log, it is made anew and not kept.

    None where there is nothing to explain yet.
    """
    kept = read_json(run.folder / EXPLANATION_FILE)
    if _has_all_parts(kept) and kept.get("made_from") == _fingerprint(run):
        return kept
    try:
        return made_anew(run)
    except UserError:
        return None


def made_anew(run: RunRecord) -> Explanation:
    """A run explained, with a fingerprint of what the explanation was made from.

    Raises:
        UserError: as explain_run.
    """
    return explain_run(run) | {"history": history(run), "made_from": _fingerprint(run)}


def keep(run_dir: Path, explanation: Explanation) -> None:
    """Write explanation.json."""
    write_json(run_dir / EXPLANATION_FILE, explanation)


def _fingerprint(run: RunRecord) -> str:
    """Of what an explanation depends on. The time of a file would not do: a copy of a folder has another one."""
    parts = json.dumps([run.recipe, run.identity, run.data, run.log], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()


def _has_all_parts(kept: Any) -> bool:
    if not isinstance(kept, dict) or not all(isinstance(kept.get(key), kind) for key, kind in _PARTS.items()):
        return False
    return kept["forecast"] is None or isinstance(kept["forecast"].get("final"), dict)  # older ones have it otherwise
