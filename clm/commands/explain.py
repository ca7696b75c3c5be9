"""Is this loss normal, where will it end, and what would help."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clm.commands.arguments import CommandParser, count
from clm.config.recipe import parse
from clm.errors import UserError
from clm.explain import explain, explanation
from clm.files import write_json
from clm.launch.writable import check_output
from clm.runs.record import read_run


def run(words: Sequence[str]) -> None:
    """Explain a run's folder, or a loss at a step of a recipe."""
    parser = CommandParser(
        "explain",
        __doc__,
        epilog="Give the folder of a run and nothing else but --output. Or give --config RECIPE [--key value ...].",
    )
    parser.add_argument("--step", type=count, help="optimizer steps done")
    parser.add_argument("--loss", type=float, help="the training loss there, nats a token")
    parser.add_argument("--dataset_tokens", type=count, help="tokens of the training text, if nothing tells")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write it as JSON")
    args, rest = parser.parse_known_args(words)
    if args.output:
        check_output(args.output)
    if rest and not rest[0].startswith("--"):
        if rest[1:] or args.step is not None or args.loss is not None or args.dataset_tokens is not None:
            raise UserError("explain: a run's folder says it all: leave everything but --output out")
        explained = _explain_run(Path(rest[0]))
    elif args.step is None or args.loss is None:
        raise UserError("explain: give a run's folder, or --config RECIPE --step N --loss X")
    else:
        explained = explain.explain_recipe(parse(rest), args.step, args.loss, args.dataset_tokens)
    print(explain.explanation_page(explained))
    if args.output:
        write_json(args.output, explained)


def _explain_run(run_dir: Path) -> dict[str, Any]:
    """A run explained anew, and that kept in its folder where it may be written."""
    explained = explanation.made_anew(read_run(run_dir))
    try:
        explanation.keep(run_dir, explained)
    except OSError as error:
        print(f"warning: {run_dir / explanation.EXPLANATION_FILE} can't be written ({error.strerror})", file=sys.stderr)
    return explained
