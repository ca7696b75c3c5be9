"""Several runs side by side: their results, and what differs in their recipes and machines."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from clm.numbers import duration, fixed, number, shown
from clm.report import rows as page_rows
from clm.runs.record import RunRecord

# name, unit, value of a run, digits, whether the lowest is the best
_RESULTS = (
    ("steps", "", lambda run: run.step, 0, False),
    ("trained on", "tokens", page_rows.tokens, 0, False),
    ("parameters", "", lambda run: run.parameters, 0, False),
    ("validation loss", "nats per token", lambda run: run.metrics.get("eval_loss"), 4, True),
    ("perplexity", "per token", lambda run: run.metrics.get("perplexity"), 2, True),
    ("word perplexity", "per word", lambda run: run.metrics.get("word_perplexity"), 1, True),
    ("bits per byte", "of UTF-8", lambda run: run.metrics.get("bits_per_byte"), 4, True),
    ("training loss", "mean, nats per token", lambda run: run.trained.get("train_loss"), 4, False),
    ("speed", "tokens/s", lambda run: run.trained.get("tokens_per_second"), 0, False),
)
_PER_TOKEN = ("validation loss", "perplexity")


def names(runs: Sequence[RunRecord]) -> list[str]:
    """The folders' names, or their paths where names are the same."""
    often = Counter(run.name for run in runs)
    return [run.name if often[run.name] == 1 else str(run.folder) for run in runs]


def results(runs: Sequence[RunRecord]) -> list[tuple[str, str, list[str], int | None]]:
    """Rows of (name, unit, a value for each run, the place of the best one if one is better than all others)."""
    rows = [("state", "", [run.state for run in runs], None)]
    for name, unit, value_of, digits, lowest_is_best in _RESULTS:
        values = [number(value_of(run)) for run in runs]
        if all(value is None for value in values):
            continue
        known = [value for value in values if value is not None]
        comparable = _same(runs, "text") and (name not in _PER_TOKEN or _same(runs, "tokenizer"))
        clear = lowest_is_best and comparable and len(known) > 1 and known.count(min(known)) == 1
        best = values.index(min(known)) if clear else None
        rows.append((name, unit, [fixed(value, digits) for value in values], best))
    rows.append(("time", "in training", [duration(page_rows.seconds(run)) for run in runs], None))
    return rows


def warnings(runs: Sequence[RunRecord]) -> list[str]:
    """What must not be compared, and why."""
    if not _same(runs, "text"):
        return ["These runs were trained or validated on different text: their losses can't be compared."]
    if not _same(runs, "tokenizer"):
        return ["These runs have different tokenizers: compare word perplexity and bits per byte, not loss per token."]
    return []


def differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[tuple[str, list[str]]], str]]:
    """(title, rows of what differs, what to say where nothing does) for recipes and machines."""
    machines = [dict(page_rows.machine_rows(run)) for run in runs]
    recipe_rows = _differing([{**run.recipe, "output_dir": None} for run in runs])
    return [
        ("What differs in the recipes", recipe_rows, "Nothing: the recipes are the same."),
        ("What differs in the machines", _differing(machines), "Nothing."),
    ]


def _differing(tables: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [(key, [shown(table.get(key)) for table in tables]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _same(runs: Sequence[RunRecord], key: str) -> bool:
    """Whether the runs have the same text or tokenizer, as far as their folders tell."""
    return len({str(run.identity.get(key)) for run in runs}) == 1
