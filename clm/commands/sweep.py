"""Search over recipes with small runs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from clm.commands.arguments import CommandParser
from clm.config.recipe import load


def run(words: Sequence[str]) -> None:
    """Run the sweep or resume it. Then write the larger recipe, if one is given."""
    parser = CommandParser("sweep", __doc__)
    parser.add_argument("sweep", type=Path, metavar="FILE", help="recipes/sweeps/NAME.json; give it again to resume")
    parser.add_argument(
        "--transfer_to",
        type=Path,
        metavar="RECIPE",
        help="a larger recipe, to be written with the values found",
    )
    args = parser.parse(words)
    # These take seconds to import, so not before the command line is right.
    from clm.sweep import definition, transfer
    from clm.sweep import run as sweep_run

    sweep = definition.read(args.sweep)
    target = load(args.transfer_to) if args.transfer_to else None
    say = partial(print, flush=True)
    found = sweep_run.run(sweep, say)
    if target:
        say(transfer.transfer_page(*transfer.write(sweep, found, target)))
