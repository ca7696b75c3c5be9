"""Train a recipe's tokenizer alone: `python tokenizer/train_tokenizer.py --config RECIPE [--key value ...]`.

The run itself finds it again, since it asks for the same fingerprint.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, when run as a script

from clm.config.command_line import parse
from clm.data.prepare import open_text, prepare_tokenizer
from clm.errors import MachineError, UserError
from clm.rollback import Rollback


def main(argv: Sequence[str] | None = None) -> int:
    """Train it, or say that it is there; exit codes as run_clm.py's."""
    try:
        recipe = parse(sys.argv[1:] if argv is None else argv)
        text = open_text(recipe.data, recipe.training["seed"])
        with Rollback() as rollback:
            tokenizer, origin = prepare_tokenizer(recipe.data, text.train, print, rollback)
    except (UserError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{len(tokenizer):,} ids in {origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
