"""Is this loss normal, where will it end, and what would help."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clm.commands.arguments import CommandParser, count
from clm.config.command_line import parse
from clm.errors import UserError
from clm.explain import explain, explanation
from clm.explain.log.explained import explain_log, known_of
from clm.explain.log.given import Given
from clm.files import write_json
from clm.launch.writable import check_output
from clm.report.report import write_log_report, write_report
from clm.runs.logs.as_run import record_of
from clm.runs.logs.read import STANDARD_INPUT, read_log
from clm.runs.record import read_run

EPILOG = """There are three ways to ask. `explain RUN_DIR` explains the run in a folder. `explain LOG --key value ...`
explains the log of any trainer: LOG is a file, a folder of TensorBoard or - for standard input. The keys of a recipe,
one by one or by --config RECIPE, say what is known of the run. `explain --config RECIPE --step N --loss X` explains one
loss."""


def run(words: Sequence[str]) -> None:
    """Explain a run's folder, anyone's log, or a loss at a step of a recipe."""
    parser = CommandParser("explain", __doc__, epilog=EPILOG)
    parser.add_argument("--step", type=count, help="optimizer steps done")
    parser.add_argument("--loss", type=float, help="the training loss there, nats a token")
    parser.add_argument(
        "--dataset_tokens",
        type=count,
        help="tokens of the training text; by default found out or estimated",
    )
    parser.add_argument("--until", type=count, metavar="STEP", help="read a log up to this step")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write it as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write it as a page with its curve")
    args, rest = parser.parse_known_args(words)
    for name, path in (("--output", args.output), ("--report", args.report)):
        if path:
            check_output(path, name)
    subject, keys = _subject(rest)
    if subject is None:
        explained = _explain_recipe(args, keys)
    elif subject != STANDARD_INPUT and (Path(subject) / "recipe.json").is_file():
        explained = _explain_run(Path(subject), args, keys)
    else:
        explained = _explain_log(subject, args, keys)
    print(explain.explanation_page(explained))
    if args.output:
        write_json(args.output, explained)


def _subject(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The one word that belongs to no key, a run or a log, and the others."""
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if not word.startswith("--") and ("=" in before or not before.startswith("--")):
            return word, [*words[:place], *words[place + 1 :]]
    return None, list(words)


def _explain_recipe(args: argparse.Namespace, keys: Sequence[str]) -> dict[str, Any]:
    if args.step is None or args.loss is None:
        raise UserError("explain: give a run's folder, a log, or --config RECIPE --step N --loss X")
    if args.until or args.report:
        raise UserError("explain: --until and --report are for a log or a run's folder: a single loss has no curve")
    return explain.explain_recipe(parse(keys), args.step, args.loss, args.dataset_tokens)


def _explain_run(run_dir: Path, args: argparse.Namespace, keys: Sequence[str]) -> dict[str, Any]:
    """A run explained anew, and that kept in its folder where it may be written."""
    if keys or any(value is not None for value in (args.step, args.loss, args.dataset_tokens, args.until)):
        raise UserError("explain: a run's folder says it all: leave everything but --output and --report out")
    explained = explanation.made_anew(read_run(run_dir))
    try:
        explanation.keep(run_dir, explained)
    except OSError as error:
        print(f"warning: {run_dir / explanation.EXPLANATION_FILE} can't be written ({error.strerror})", file=sys.stderr)
    if args.report:
        write_report(run_dir, explained, args.report)
    return explained


def _explain_log(path: str, args: argparse.Namespace, keys: Sequence[str]) -> dict[str, Any]:
    if args.step is not None or args.loss is not None:
        raise UserError("explain: a log has steps and losses of its own: leave --step and --loss out")
    given = Given.of(keys, args.dataset_tokens)
    log = read_log(path, known_of(given))
    given = replace(given, total_steps=log.total_steps)
    explained = explain_log(log, given, args.until)
    if args.report:
        curve = log.curve.until(args.until) if args.until else log.curve
        record = record_of(replace(log, curve=curve), given.told, given.sequences_per_step, given.steps)
        write_log_report(record, explained, args.report)
    return explained
