"""The notebook of `examples` runs from its first cell to its last, at toy size: a kernel, the launcher, real runs."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_docs import ROOT
from tests.tiny import make_text

NOTEBOOK = ROOT / "examples/own_text.ipynb"
SMALL = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 300, "max_steps": 4, "eval_steps": 2,
         "save_steps": 2, "logging_steps": 1, "use_cpu": True}  # fmt: skip


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with what the notebook needs of a clone, and a text of one's own."""
    for name in ("run_clm.py", "clm", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "examples").mkdir()
    (tmp_path / "my_text").mkdir()
    (tmp_path / "my_text/story.txt").write_text(make_text(400), "utf-8")
    monkeypatch.setenv("NOTEBOOK_KEYS", json.dumps(SMALL))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # as in an activated environment
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")


def test_every_cell_runs(clone):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": clone / "examples"}}).execute()
    by_source = {cell.source: printed(cell) for cell in notebook.cells if cell.cell_type == "code"}
    said = {start: next(out for source, out in by_source.items() if start in source) for start in (
        "python -m clm plan", "from run_clm import", "!accelerate launch", '"explain"', "pipeline(")}  # fmt: skip
    assert "1 files" in next(out for source, out in by_source.items() if "TEXT = " in source)
    assert "tokens a step" in said["python -m clm plan"]
    assert "step 2/2" in said["from run_clm import"]  # a tenth of four steps, and at least two
    assert "step 4/4" in said["!accelerate launch"] and "Traceback" not in said["!accelerate launch"]
    assert "IS IT NORMAL?" in said['"explain"']
    assert said["pipeline("].count("[temperature") == 2
    assert {path.name for path in (clone / "runs").iterdir()} == {"notebook", "notebook-few"}


def test_it_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
