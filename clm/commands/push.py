"""Push a run to the Hub, or its tokenizer, or its text."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from clm.commands.arguments import CommandParser, truth
from clm.config.limits import CHOICES
from clm.config.recipe import load
from clm.errors import UserError


def run(words: Sequence[str]) -> None:
    """Push what is asked for and say where it is."""
    parser = CommandParser("push", __doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run's folder")
    parser.add_argument("--hub_model_id", metavar="OWNER/NAME", help="default: the recipe's")
    parser.add_argument("--hub_revision", metavar="BRANCH", help="default: the recipe's, or main")
    parser.add_argument("--hub_private_repo", type=truth, nargs="?", const=True, help="for a repository it makes")
    parser.add_argument("--hub_strategy", choices=CHOICES["hub_strategy"], help="default: the recipe's")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--tokenizer", metavar="OWNER/NAME", help="push the tokenizer there, and nothing else")
    instead.add_argument("--dataset", metavar="OWNER/NAME", help="push the packed text there, and nothing else")
    args = parser.parse(words)
    if not (args.run_dir / "recipe.json").is_file():
        raise UserError(f"{args.run_dir}: not a run's folder: it has no recipe.json")
    # These take seconds to import, so not before the command line is right.
    from clm.hub.access import MAIN, Target, client
    from clm.hub.artifacts import push_dataset, push_tokenizer
    from clm.hub.background import with_retries
    from clm.hub.push import push

    keys = ("hub_model_id", "hub_revision", "hub_private_repo", "hub_strategy")
    given = {key: value for key in keys if (value := getattr(args, key)) is not None}
    target = Target.of({**load(args.run_dir / "recipe.json").training, **given})
    api = client()
    if name := args.tokenizer or args.dataset:
        target = replace(target, name=name, branch=args.hub_revision or MAIN, strategy="end")
    if args.tokenizer:
        work = partial(push_tokenizer, api, args.run_dir, target)
    elif args.dataset:
        work = partial(push_dataset, api, args.run_dir, target, print)
    else:
        work = partial(push, api, args.run_dir, target)
    print(f"pushed to {with_retries(work, target.name)}")
