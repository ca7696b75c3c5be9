"""`python -m clm COMMAND`: what can be asked without training anything."""

import sys
from collections.abc import Sequence
from importlib import import_module

from clm.commands.arguments import Parser
from clm.errors import exit_code_of
from clm.launch import signals

# Each is a module of clm.commands, which is imported when it is asked for: most need seconds for what they import.
COMMANDS = {
    "plan": "what a recipe will need, before it runs",
    "explain": "is this loss normal, where will it end, what would help",
    "runs": "the runs below a folder, and how each stands",
    "report": "a run as a page, or several compared on one",
    "generate": "let a model continue a text",
    "push": "a run to the Hub, or its tokenizer, or its text",
    "evaluate": "score a text with a model",
    "sweep": "search over recipes with small runs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit codes as run_clm.py's."""
    return exit_code_of(lambda: run(sys.argv[1:] if argv is None else argv))


def run(words: Sequence[str]) -> None:
    """Run the command that the first word names with the others."""
    parser = Parser(prog="python -m clm", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    name = parser.parse_args(words[:1] or ["--help"]).command
    command = import_module(f"clm.commands.{name}")
    with signals.caught():
        command.run(words[1:])


if __name__ == "__main__":
    signals.end_at_once()  # until the command has been imported there is nothing to unwind
    sys.exit(main())
