"""The first answer of docs/training-loss.md is what its command prints now."""

import re
import shlex
from pathlib import Path

from clm.__main__ import main
from clm.explain.references import entries
from tests.tiny import ROOT

SHARE = 0.25


def write_log() -> None:
    """A quarter of a public run's curve, in the shape of llm.c's main.log."""
    run = next(entry for entry in entries("large_runs.json") if entry["name"] == "gpt2-124m-fineweb-adamw-cosine")
    last = SHARE * run["schedule"]["max_steps"]
    rows = [(step, "trl", loss) for step, loss in run["train"]] + [
        (step, "tel", loss) for step, loss in run["validation"]
    ]
    lines = [f"s:{step} {kind}:{loss:.4f}" for step, kind, loss in sorted(rows) if step <= last]
    Path("main.log").write_text("\n".join(lines) + "\n")


def test_the_guides_first_answer_is_what_comes_out_now(workplace, capsys):
    page = (ROOT / "docs" / "training-loss.md").read_text("utf-8")
    command, shown = re.findall(r"```\n(.*?)\n```", page, re.DOTALL)[:2]
    write_log()
    assert main(shlex.split(command.replace("\\\n", " "))[3:]) == 0
    printed = capsys.readouterr().out.rstrip()
    assert shown.split("\n\n") == [part for part in printed.split("\n\n") if not part.startswith("WHAT WOULD HELP")]
