"""`python -m clm COMMAND`: what can be asked without training anything."""

import os
import sys

from clm.launch import signals

if __name__ == "__main__":
    signals.end_at_once()  # the imports alone take seconds

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from transformers.utils.logging import disable_progress_bar

from clm.config.fields import CHOICES
from clm.config.recipe import load, parse
from clm.errors import MachineError, Stopped, UserError
from clm.evaluation import evaluate
from clm.evaluation.loading import load_model
from clm.explain import explain
from clm.files import write_json
from clm.hub.access import MAIN, Target, client
from clm.hub.artifacts import push_dataset, push_tokenizer
from clm.hub.beside import again_and_again
from clm.hub.push import push
from clm.launch import processes
from clm.model.generation import continue_prompts
from clm.plan import devices, page, plan, shapes
from clm.report.report import COMPARISON_FILE, write_comparison, write_report
from clm.sweep import definition, transfer
from clm.sweep import run as sweep_run

WT103 = Path(__file__).resolve().parent.parent / "recipes" / "wt103.json"  # whose set-up shapes are for, by default


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"command line: {message}; see python -m clm --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit codes as run_clm.py's."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args, rest = parser.parse_known_args(words or ["--help"])
        if rest and args.run not in (_plan, _explain):
            raise UserError(f"command line: {rest[0]} isn't known to {args.command}; see python -m clm --help")
        with signals.caught():
            args.run(args, rest)
    except (UserError, MachineError, Stopped) as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"{'stopped' if isinstance(error, Stopped) else 'error'}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog="python -m clm", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    planning = commands.add_parser("plan", help="what a recipe will need, before it runs", allow_abbrev=False)
    planning.add_argument("--dataset_tokens", type=_count, help="tokens of the training text, where nothing tells")
    planning.add_argument("--processes", type=_count, default=1, help="how many would train together")
    planning.add_argument("--device", help=f"on what: {', '.join(devices.GPUS)}; default: this machine")
    planning.add_argument("--output", type=Path, metavar="FILE", help="write it as JSON, too")
    planning.add_argument("--budget", type=_amount, metavar="FLOPS", help="shapes for so much training instead: 1e18")
    planning.add_argument("--parameters", type=_amount, help="shapes of about so many: 30e6")
    planning.epilog = "Anything else is the recipe's: --config RECIPE [--key value ...]"
    planning.set_defaults(run=_plan)

    explaining = commands.add_parser(
        "explain", help="is this loss normal, where does it end, what helps", allow_abbrev=False
    )
    explaining.add_argument("--step", type=_count, help="optimizer steps done")
    explaining.add_argument("--loss", type=float, help="the training loss there, nats a token")
    explaining.add_argument("--dataset_tokens", type=_count, help="tokens of the training text, where nothing tells")
    explaining.add_argument("--output", type=Path, metavar="FILE", help="write it as JSON, too")
    explaining.epilog = (
        "With a run: its folder, and nothing else but --output. Without: --config RECIPE [--key value ...]"
    )
    explaining.set_defaults(run=_explain)

    reporting = commands.add_parser("report", help="a run as a page; several beside each other", allow_abbrev=False)
    reporting.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="a run's folder, finished or not")
    reporting.add_argument(
        "--output", type=Path, metavar="FILE", help=f"by default RUN_DIR/report.html; for several {COMPARISON_FILE}"
    )
    reporting.set_defaults(run=_report)

    generating = commands.add_parser("generate", help="let a model continue a text", allow_abbrev=False)
    generating.add_argument("--model", required=True, help="a run's folder, or a name on the Hub")
    generating.add_argument("--prompt", required=True, action="append", help="may be given several times")
    generating.add_argument("--max_new_tokens", type=_count, default=60)
    generating.add_argument("--seed", type=int, default=0, help="of what is sampled")
    generating.set_defaults(run=_generate)

    _add_push(commands)
    _add_evaluate(commands)

    sweeping = commands.add_parser("sweep", help="search over recipes with small runs", allow_abbrev=False)
    sweeping.add_argument("sweep", type=Path, metavar="FILE", help="recipes/sweeps/NAME.json; the same again goes on")
    sweeping.add_argument(
        "--transfer_to", type=Path, metavar="RECIPE", help="a larger recipe, to write again with the values found"
    )
    sweeping.set_defaults(run=_sweep)
    return parser


def _add_push(commands: Any) -> None:
    pushing = commands.add_parser("push", help="a run to the Hub, or its tokenizer, or its text", allow_abbrev=False)
    pushing.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run's folder")
    pushing.add_argument("--hub_model_id", metavar="OWNER/NAME", help="default: the recipe's")
    pushing.add_argument("--hub_revision", metavar="BRANCH", help="default: the recipe's, or main")
    pushing.add_argument("--hub_private_repo", type=_truth, nargs="?", const=True, help="for a repository it makes")
    pushing.add_argument("--hub_strategy", choices=CHOICES["hub_strategy"], help="default: the recipe's")
    other = pushing.add_mutually_exclusive_group()
    other.add_argument("--tokenizer", metavar="OWNER/NAME", help="push the tokenizer there, and nothing else")
    other.add_argument("--dataset", metavar="OWNER/NAME", help="push the packed text there, and nothing else")
    pushing.set_defaults(run=_push)


def _add_evaluate(commands: Any) -> None:
    scoring = commands.add_parser("evaluate", help="score a text with a model", allow_abbrev=False)
    scoring.add_argument("--model", required=True, help="a folder, or a name on the Hub")
    text = scoring.add_mutually_exclusive_group(required=True)
    text.add_argument("--text_file", metavar="PATH", help="a file, folder or glob, as train_file in a recipe")
    text.add_argument("--dataset_name", help="a dataset of the Hub")
    scoring.add_argument("--dataset_config_name", help="its configuration, such as wikitext-103-raw-v1")
    scoring.add_argument("--split", default="test")
    scoring.add_argument("--text_column", default="text")
    scoring.add_argument("--document_separator", help="line, blank_line, article, none, or a text; default: the run's")
    scoring.add_argument("--block_size", type=_count, help="tokens in a window; default: the run's, or the model's")
    scoring.add_argument("--stride", type=_count, help="tokens from window to window; default: block_size")
    scoring.add_argument("--per_device_eval_batch_size", type=_count, default=8, help="windows at a time")
    scoring.add_argument("--bf16", type=_truth, nargs="?", const=True, default=False, help="not fp32")
    scoring.add_argument("--cache_dir", default=".cache", help="for datasets of the Hub")
    scoring.add_argument("--output", type=Path, metavar="FILE", help="write it as JSON, too")
    scoring.set_defaults(run=_evaluate)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't 1 or more")
    return int(text)


def _amount(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't a number above 0")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _plan(args: argparse.Namespace, recipe_words: list[str]) -> None:
    device = devices.by_name(args.device) if args.device else None
    if args.budget or args.parameters:
        _shapes(args, recipe_words, device)
        return
    made = plan.make(parse(recipe_words), args.dataset_tokens, args.processes, device)
    print(page.describe(made))
    if args.output:
        evaluate.check_output(args.output)
        write_json(args.output, plan.as_json(made))


def _shapes(args: argparse.Namespace, recipe_words: list[str], device: devices.Device | None) -> None:
    recipe = parse(recipe_words) if recipe_words else load(WT103)
    device = device or plan.this_device(recipe, 1)[0]
    found = shapes.for_budget(recipe, device, args.budget, args.parameters, args.dataset_tokens)
    print(shapes.describe(found, recipe, device))
    if args.output:
        evaluate.check_output(args.output)
        write_json(args.output, shapes.as_json(found))


def _explain(args: argparse.Namespace, words: list[str]) -> None:
    if args.output:
        evaluate.check_output(args.output)
    if words and not words[0].startswith("--"):
        if words[1:] or args.step is not None or args.loss is not None or args.dataset_tokens is not None:
            raise UserError("explain: a run's folder says it all; leave everything else but --output out")
        explained = explain.explain_run(Path(words[0]))
    elif args.step is None or args.loss is None:
        raise UserError("explain: give a run's folder, or --config RECIPE --step N --loss X")
    else:
        explained = explain.explain_recipe(parse(words), args.step, args.loss, args.dataset_tokens)
    print(explain.describe(explained))
    if args.output:
        write_json(args.output, explained)


def _report(args: argparse.Namespace, _: list[str]) -> None:
    if len(args.runs) == 1:
        written = write_report(args.runs[0], explain.for_report(args.runs[0]), args.output)
    else:
        written = write_comparison(args.runs, args.output or Path(COMPARISON_FILE))
    print("\n".join(map(str, written)))


def _generate(args: argparse.Namespace, _: list[str]) -> None:
    disable_progress_bar()
    model, tokenizer = load_model(args.model)
    for sample in continue_prompts(model, tokenizer, args.prompt, args.max_new_tokens, args.seed):
        print(f"[{sample.mode}] {sample.prompt}{sample.text}")


def _push(args: argparse.Namespace, _: list[str]) -> None:
    if not (args.run_dir / "recipe.json").is_file():
        raise UserError(f"{args.run_dir}: not a run's folder: it has no recipe.json")
    keys = ("hub_model_id", "hub_revision", "hub_private_repo", "hub_strategy")
    given = {key: value for key in keys if (value := getattr(args, key)) is not None}
    target = Target.of({**load(args.run_dir / "recipe.json").training, **given})
    api, other = client(), args.tokenizer or args.dataset
    if other:
        target = replace(target, name=other, branch=args.hub_revision or MAIN, strategy="end")
    if args.tokenizer:
        work = partial(push_tokenizer, api, args.run_dir, target)
    elif args.dataset:
        work = partial(push_dataset, api, args.run_dir, target, print)
    else:
        work = partial(push, api, args.run_dir, target)
    print(f"pushed to {again_and_again(work, target.name)}")


def _sweep(args: argparse.Namespace, _: list[str]) -> None:
    sweep = definition.read(args.sweep)
    target = load(args.transfer_to) if args.transfer_to else None
    say = partial(print, flush=True)
    found = sweep_run.run(sweep, say)
    if target:
        say(transfer.describe(*transfer.write(sweep, found, target)))


def _evaluate(args: argparse.Namespace, _: list[str]) -> None:
    with processes.processes():
        evaluate.run(args)


if __name__ == "__main__":
    sys.exit(main())
