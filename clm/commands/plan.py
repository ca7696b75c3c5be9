"""What a recipe will need, before it runs. Or, with a budget, which shapes of model to train on it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from clm.commands.arguments import CommandParser, amount, count
from clm.config.command_line import parse
from clm.config.recipe import load
from clm.errors import UserError
from clm.files import write_json
from clm.launch.writable import check_output
from clm.plan import devices, page, plan
from clm.plan.devices import Device
from clm.plan.this_machine import this_device

SHAPED_AFTER = Path("recipes/wt103.json")  # the recipe of everything but the shape, if none is given


def run(words: Sequence[str]) -> None:
    """Print the plan of the recipe in `words`, or the shapes of a budget."""
    parser = CommandParser("plan", __doc__, epilog="Anything else is the recipe's: --config RECIPE [--key value ...]")
    parser.add_argument(
        "--dataset_tokens",
        type=count,
        help="tokens of the training text; by default found out or estimated",
    )
    parser.add_argument("--processes", type=count, default=1, help="how many train together")
    parser.add_argument("--device", help=f"one of {', '.join(devices.GPUS)}; default: this machine")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write it as JSON")
    parser.add_argument("--budget", type=amount, metavar="FLOPS", help="show the shapes for this much training: 1e18")
    parser.add_argument("--parameters", type=amount, help="show shapes with about this many parameters: 30e6")
    args, recipe_words = parser.parse_known_args(words)
    if args.output:
        check_output(args.output)
    device = devices.by_name(args.device) if args.device else None
    if args.budget or args.parameters:
        _shapes(args, recipe_words, device)
        return
    made = plan.make(parse(recipe_words), args.dataset_tokens, args.processes, device)
    print(page.plan_page(made))
    if args.output:
        write_json(args.output, plan.as_json(made))


def _shapes(args: argparse.Namespace, recipe_words: Sequence[str], device: Device | None) -> None:
    if not recipe_words and not SHAPED_AFTER.is_file():
        raise UserError(f"plan: {SHAPED_AFTER} isn't in this folder: say with --config which recipe the shapes are for")
    from clm.plan import shapes  # takes seconds to import: it expects a loss of each shape

    recipe = parse(recipe_words) if recipe_words else load(SHAPED_AFTER)
    device = device or this_device(recipe, 1)[0]
    found = shapes.for_budget(recipe, device, args.budget, args.parameters, args.dataset_tokens)
    print(shapes.shapes_table(found, recipe, device))
    if args.output:
        write_json(args.output, shapes.as_json(found))
