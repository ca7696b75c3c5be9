"""Fixtures that several rooms of tests share."""

import os
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.tiny import make_text, write_recipe

# A core for each: threads that share one wait.
if worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder to run in, with text.txt and tiny.json; the environment comes back as it was."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    Path("text.txt").write_text(make_text(), "utf-8")
    write_recipe()
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)
    AcceleratorState._reset_state(reset_partial_state=True)
