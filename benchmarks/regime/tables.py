"""The tables of docs/data-limited.md, by their rows."""

import statistics

from benchmarks.regime.rows import SIZES

TABLES: dict[str, list[str]] = {"base": ["base"]}


def cell(runs: list[dict], base: list[dict]) -> list[str]:
    """The mean of the last losses, how far they spread, and what they are below the base's best; runs; training."""
    if not runs:
        return ["", "", "", ""]
    losses = [run["end"] for run in runs]
    spread = f" ± {(max(losses) - min(losses)) / 2:.3f}" if len(losses) > 1 else ""
    better = ""
    if base:
        of_seed = {run["seed"]: run["best"] for run in base}
        pairs = [run["best"] - of_seed[run["seed"]] for run in runs if run["seed"] in of_seed]
        better = f"{statistics.mean(pairs):+.3f}" if pairs else ""
    best = statistics.mean(run["best"] for run in runs)
    return [f"{statistics.mean(losses):.3f}{spread}", f"{best:.3f}", better, f"{len(runs)}"]


def print_tables(runs: list[dict]) -> None:
    """Each as Markdown. Rows without a run are left out; rows that no table has come last."""
    in_tables = {row for rows in TABLES.values() for row in rows}
    others = list(dict.fromkeys(run["row"] for run in runs if run["row"] not in in_tables))
    for title, rows in (TABLES | {"other rows": others}).items():
        print(f"\n### {title}\n")
        columns = [f"{size}: {what}" for size in SIZES for what in ("end", "best", "below base", "runs")]
        print(f"| change | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        for row in rows:
            cells = []
            for size in SIZES:
                of_size = [run for run in runs if run["size"] == size]
                base = [run for run in of_size if run["row"] == "base"]
                cells += cell([run for run in of_size if run["row"] == row], base)
            if any(cells):
                print(f"| {row} | {' | '.join(cells)} |")
