"""A command imports only what it needs: torch and transformers take seconds, and some questions need neither."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clm.__main__ import COMMANDS
from tests.test_docs import ROOT

SLOW = ("torch", "transformers", "datasets", "matplotlib", "jinja2", "optuna", "scipy")
ASK = """
import json, sys
from clm.__main__ import main
try:
    code = main({words!r})
except SystemExit as left:
    code = left.code
print(json.dumps([code, [name for name in {slow!r} if name in sys.modules]]))
"""


def imported_by(words: list[str], cache: Path | None = None) -> list:
    """The exit code of `python -m clm WORDS` in a process of its own, and which slow packages it imported."""
    asked = ASK.format(words=words, slow=SLOW)
    env = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["plan", "--config", "recipes/quickstart.json", "--device", "h100"],
        ["plan", "--config", "recipes/wt103.json", "--processes", "32", "--device", "h100"],
        ["runs", "docs"],
        *([command, "--help"] for command in COMMANDS),
        ["explain", "--config", "recipes/wt103-seed.json", "--step", "3000", "--loss", "3.9"],
    ],
    ids=" ".join,
)
def test_it_imports_nothing_that_takes_seconds(words):
    assert imported_by(words) == [0, []]


def test_a_plan_for_this_machine_measures_it_with_torch_alone_and_once(tmp_path):
    words = ["plan", "--config", "recipes/wt103.json"]
    code, imported = imported_by(words, tmp_path)
    assert code == 0 and "torch" in imported and "transformers" not in imported
    assert imported_by(words, tmp_path) == [0, []]
