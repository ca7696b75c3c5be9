"""What a sweep leaves: a table in the terminal, best.json to launch, sweep.json with all figures, and sweep.html."""

from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial

from clm.config.recipe import merge, read_object
from clm.files import write_json
from clm.numbers import brief, duration
from clm.sweep.definition import Sweep
from clm.sweep.findings import Findings
from clm.sweep.study import repeat_of

BEST_FILE, DATA_FILE, PAGE_FILE = "best.json", "sweep.json", "sweep.html"


def best_recipe(sweep: Sweep, found: Findings) -> dict[str, Any]:
    """The best trial's recipe, as short as the base recipe's file, with where its values come from."""
    keys = sweep.overrides(found.best.params)
    own = {key: value for key, value in keys.items() if value is not None}
    values = ", ".join(f"{flat.key} {brief(flat.best)} (as good: {flat})" for flat in found.flat)
    return merge(read_object(sweep.base.path), own) | {
        "about": f"{sweep.path}: {values}. {' '.join(found.sure)}",
        "output_dir": f"runs/{sweep.path.stem}-best",
    }


def write_data(sweep: Sweep, found: Findings) -> None:
    """Write best.json and sweep.json."""
    write_json(sweep.output_dir / BEST_FILE, best_recipe(sweep, found))
    trials = [
        {"trial": trial.number, "repeat": repeat_of(trial), "values": trial.params, **trial.user_attrs}
        for trial in found.trials
    ]
    write_json(
        sweep.output_dir / DATA_FILE,
        {
            "search": sweep.described(),
            "best": {"trial": found.best.number, "values": found.best.params, "loss": found.best.value},
            "tolerance": found.tolerance,
            "noise": found.noise,
            "repeats": found.repeats,
            "flat": [asdict(flat) for flat in found.flat],
            "importances": found.importances,
            "replay": found.replay and asdict(found.replay),
            "trials": trials,
        },
    )


def rows(found: Findings) -> list[list[str]]:
    """A row for each trial, the best first: number, values, loss, nats above the best, how it ended, time."""
    ordered = sorted(
        found.trials, key=lambda trial: (trial.user_attrs.get("loss") is None, trial.user_attrs.get("loss"))
    )
    return [[str(trial.number), *_row(found, trial)] for trial in ordered]


def _row(found: Findings, trial: FrozenTrial) -> list[str]:
    attributes, above = trial.user_attrs, found.above(trial)
    loss = "" if attributes.get("loss") is None else f"{attributes['loss']:.4f}"
    said = attributes.get("kind", "under way")
    if repeat_of(trial):
        said = f"{said}, repeats {attributes['of']}"
    elif trial is found.best:
        said = "best"
    elif above is not None and above <= found.tolerance:
        said = "equal to the best"
    seconds = duration(attributes["seconds"]) if "seconds" in attributes else ""
    values = [brief(value) for value in trial.params.values()]
    return [*values, loss, "" if above is None else f"{above:+.4f}", said, seconds]


def heads(sweep: Sweep) -> list[str]:
    """The names of those columns."""
    return ["trial", *sweep.vary, "loss", "above", "", "time"]


def table(sweep: Sweep, found: Findings) -> str:
    """All of it as a page for the terminal."""
    cells = [heads(sweep), *rows(found)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines += ["", *found.sure]
    lines += [f"{flat.key}: {brief(flat.best)}; as good: {flat}" for flat in found.flat]
    if found.importances:
        lines.append("importance: " + ", ".join(f"{key} {share:.0%}" for key, share in found.importances.items()))
    lines += replay_lines(found)
    return "\n".join(lines)


def replay_lines(found: Findings) -> list[str]:
    """What pruning would have done, in a sentence."""
    replay = found.replay
    if replay is None:
        return []
    return [
        f"pruning by forecast, replayed over {replay.trials} finished trials in many orders: it would have lost the "
        f"winner in {replay.lost:.0%} of them, which costs {replay.nats:.4f} nats in the mean, and saved "
        f"{replay.saved:.0%} of the steps"
    ]
