"""What a program prints, where the reader has gone (`… | head`), or can't show every letter."""

import io
import subprocess
import sys

import pytest

from clm.errors import exit_code_of
from tests.tiny import ROOT

SEED = str(ROOT / "recipes" / "wt103-seed.json")


@pytest.mark.parametrize(
    "words",
    [
        ["run_clm.py", "--help"],
        ["-m", "clm"],
        ["-m", "clm", "explain", "--config", SEED, "--step", "3000", "--loss", "3.9"],
        ["-m", "clm", "plan", "--config", SEED],
    ],
    ids=["help", "commands", "explain", "plan"],
)
def test_a_reader_that_leaves_ends_the_program_without_a_word(words):
    program = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    )
    program.stdout.close()  # before anything is printed: the imports take longer
    error = program.stderr.read()
    assert program.wait() in (0, 141) and error == ""


def test_a_pipe_of_its_own_that_breaks_is_a_defect_and_keeps_its_traceback():
    def program():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        exit_code_of(program)


def test_a_letter_that_the_terminal_has_not_is_shown_by_its_number(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert exit_code_of(lambda: print("d/caf\udce9.txt: naïve")) == 0
    assert terminal.buffer.getvalue() == b"d/caf\\udce9.txt: na\\xefve\n"
