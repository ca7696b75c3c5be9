"""`python -m clm runs`: what it says of folders made by hand, and that it needs no torch for it."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clm.__main__ import main
from clm.runs.overview import overview
from tests.runs.run_folder import make_run, write
from tests.tiny import ROOT, run

STANDS = {"step": 7, "loss": 4.5, "verdict": "above", "band": [3.0, 4.0], "findings": ["overfitting"],
          "forecast": {"loss": 4.25, "low": 4.0, "high": 4.5}, "total_steps": 10}  # fmt: skip


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs, one of them below a sweep; changed 100, 200 and 300 s after 1970."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/done"))
    make_run(Path("runs/going"), steps=5)
    write(Path("runs/going/verdict.json"), STANDS)
    Path("runs/sweeps/s").mkdir(parents=True)
    make_run(Path("runs/sweeps/s/trial-0"), steps=5)
    status = {"state": "failed", "total_steps": 10, "reason": "the disk is full"}
    write(Path("runs/sweeps/s/trial-0/run_status.json"), status)
    for seconds, name in ((100, "done"), (200, "sweeps/s/trial-0"), (300, "going")):
        for path in [*Path("runs", name).rglob("*"), Path("runs", name)]:
            os.utime(path, (seconds, seconds))
    return Path("runs")


def test_the_newest_run_is_first_and_each_says_how_it_stands(runs):
    going, trial, done = overview(runs)
    assert (going["folder"], going["changed"]) == ("runs/going", 300)
    assert (going["step"], going["loss"], going["kind"]) == (7, 4.5, "validation")
    assert (going["verdict"], going["forecast"]["loss"], going["findings"]) == ("above", 4.25, ["overfitting"])
    assert (trial["folder"], trial["state"], trial["reason"]) == ("runs/sweeps/s/trial-0", "failed", "the disk is full")
    assert (trial["step"], trial["total_steps"], trial["loss"]) == (5, 10, 4.75)  # 5 - 5 / 10 + 0.25
    assert (done["state"], done["step"], done["loss"], done["verdict"]) == ("finished", 10, 4.25, None)


def test_a_run_whose_lock_nobody_holds_has_died(runs):
    lock = runs / "going/.lock"
    states = [overview(runs / "going")[0]["state"]]
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        states.append(overview(runs / "going")[0]["state"])
        write(runs / "going/run_status.json", {"state": "stopped", "total_steps": 10})
        states.append(overview(runs / "going")[0]["state"])
    states.append(overview(runs / "going")[0]["state"])
    assert states == ["died", "running", "starting", "stopped"]


def test_what_is_half_written_or_no_run_is_passed_over(runs):
    (runs / "done/trainer_state.json").write_text("{")
    (runs / "notes").mkdir()
    (runs / "notes/recipe.json").write_text("{}")
    found = {run["folder"]: run for run in overview(runs)}
    assert len(found) == 3 and found["runs/done"]["step"] == 0 and found["runs/done"]["loss"] is None


def test_a_table_for_people_and_json_for_scripts(runs, capsys):
    assert main(["runs"]) == 0
    heads, going, trial, done = capsys.readouterr().out.splitlines()
    assert heads.split() == ["run", "state", "step", "loss", "verdict", "on", "course", "for", "changed"]
    assert going.split()[:6] == ["runs/going", "died", "7/10", "4.5000", "above;", "overfitting"]
    assert "4.25 (4.00 to 4.50)" in going and going.endswith(" ago")
    assert trial.split()[1] == "failed" and done.split()[1:4] == ["finished", "10/10", "4.2500"]
    assert main(["runs", "runs/done", "--json"]) == 0
    assert [run["folder"] for run in json.loads(capsys.readouterr().out)] == ["runs/done"]


def test_no_folder_is_one_line_and_no_run_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err.startswith("error: runs: there is no folder runs")
    Path("runs").mkdir()
    assert main(["runs"]) == 0 and capsys.readouterr().out == "no runs in runs\n"


def test_neither_torch_nor_numpy_is_imported_for_it(runs):
    code = (
        "import sys; from clm.__main__ import main; main(['runs']); print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_real_run_leaves_its_verdict(workplace):
    assert run() == 0
    (found,) = overview(Path())
    evaluated = json.loads(Path("out/eval_results.json").read_text())["eval_loss"]
    assert (found["state"], found["step"]) == ("finished", 6)
    assert found["loss"] == pytest.approx(evaluated, abs=1e-3) and found["verdict"]
