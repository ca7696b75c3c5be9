"""The runs below a folder, a line each: how far, which loss, whether it is normal, where it will end."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from clm.commands.arguments import CommandParser
from clm.errors import UserError
from clm.numbers import duration
from clm.runs.overview import Json, overview

HEADS = ("run", "state", "step", "loss", "verdict", "on course for", "changed")
RUNS = Path("runs")  # where output_dir is by default


def run(words: Sequence[str]) -> None:
    """Print the table, or the JSON."""
    parser = CommandParser("runs", __doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=RUNS, metavar="FOLDER", help="by default runs")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead, for scripts")
    args = parser.parse(words)
    if not args.folder.is_dir():
        raise UserError(f"runs: there is no folder {args.folder}; name the one that your runs are in")
    found, now = overview(args.folder), time.time()
    if args.json:
        print(json.dumps(found, indent=2))
    elif found:
        print(table([row(each, now) for each in found]))
    else:
        print(f"no runs in {args.folder}")


def row(found: Json, now: float) -> tuple[str, ...]:
    """The cells of a run, in the order of HEADS."""
    total, loss, forecast = found["total_steps"], found["loss"], found["forecast"]
    unit = " (training)" if found["kind"] == "training" else ""
    course = f"{forecast['loss']:.2f} ({forecast['low']:.2f} to {forecast['high']:.2f})" if forecast else ""
    findings = f"; {', '.join(found['findings'])}" if found["findings"] else ""
    return (
        found["folder"],
        found["state"],
        f"{found['step']:,}/{total:,}" if total else f"{found['step']:,}",
        "" if loss is None else f"{loss:.4f}{unit}",
        f"{found['verdict'] or ''}{findings}",
        course,
        f"{duration(max(0, now - found['changed']))} ago",
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [HEADS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
