"""This machine as JSON on the last line of stdout; exit code 2 with a line where torch can use no GPU."""

import json
import sys

import torch

from benchmarks.machine import machine
from clm.errors import exit_code_of


def main() -> None:
    if "--rehearse" not in sys.argv and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU here, so there is nothing to check{_why()}")
        sys.exit(2)
    print(json.dumps(machine()))


def _why() -> str:
    """What keeps torch from a card that is there, if that can be told."""
    from clm.errors import UserError
    from clm.launch import gpus

    try:
        gpus.check_driver()
    except UserError as error:
        return f": {error}"
    return ""


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
