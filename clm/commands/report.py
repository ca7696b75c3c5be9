"""Write the report of a run as a page, or compare several runs on one."""

from collections.abc import Sequence
from pathlib import Path

from clm.commands.arguments import CommandParser
from clm.explain import explanation
from clm.report.report import COMPARISON_FILE, write_comparison, write_report
from clm.runs.record import read_run


def run(words: Sequence[str]) -> None:
    """Write the page and say where it is."""
    parser = CommandParser("report", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="a run's folder, finished or not")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"by default RUN_DIR/report.html; for several {COMPARISON_FILE}"
    )
    args = parser.parse(words)
    if len(args.runs) == 1:
        written = write_report(args.runs[0], explanation.explanation_of(read_run(args.runs[0])), args.output)
    else:
        written = write_comparison(args.runs, args.output or Path(COMPARISON_FILE))
    print("\n".join(map(str, written)))
