"""`python -m clm sweep` in real processes: killed and gone on with, a trial that diverges, one that is given up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from clm.__main__ import main
from clm.config.recipe import load
from clm.sweep import trial
from clm.sweep.study import Study
from tests.sweep.made import make_sweep, outcome, run_through, write_sweep
from tests.tiny import ROOT, write_recipe

COMMAND = [sys.executable, "-m", "clm", "sweep", "sweep.json"]
SEED = 1  # of a search whose second trial has the other choice
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def until(true, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)


def test_a_killed_sweep_goes_on_where_it_was_and_a_diverged_trial_is_one(workplace):
    write_recipe(gradient_accumulation_steps=1, prompts=["a"])
    vary = {"learning_rate": {"choices": [1e-2, 1e30]}}
    write_sweep(vary=vary, tokens=64 * 150, trials=2, seed=SEED)
    with Path("killed.log").open("w") as log:
        sweep = subprocess.Popen(COMMAND, env=ENVIRONMENT, stdout=log, stderr=log)
        until(lambda: any(Path("sweep/trial-0").glob("checkpoint-*")))
        sweep.kill()
        sweep.wait()
    done = subprocess.run(COMMAND, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kinds = [one["kind"] for one in json.loads(Path("sweep/sweep.json").read_text())["trials"]]
    assert kinds == ["complete", "diverged"]
    log = Path("sweep/trial-0.log").read_text()
    assert "by the end of its launcher" in log and "resuming from" in log, log
    assert "trial 1: diverged: the" in done.stdout and "isn't finite" in done.stdout
    steps = json.loads(Path("sweep/trial-0/train_results.json").read_text())
    assert (steps["train_steps"], steps["train_tokens"]) == (150, 150 * 64)
    assert load("sweep/best.json").training["learning_rate"] == 1e-2
    assert Path("sweep/trial-0/report.html").is_file() and Path("sweep/sweep.html").is_file()
    assert len(list(Path(".cache/tokens").glob("*train*/store.json"))) == 1


def test_a_hopeless_trial_is_ended(workplace, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    recipe = make_sweep(tokens=64 * 30_000).recipe({}, output_dir="sweep/trial-0")
    Path("sweep").mkdir()
    assert trial.run(recipe, lambda _: True).kind == "pruned"


@pytest.mark.slow
def test_a_signal_leaves_a_trial_to_be_resumed(workplace):
    write_sweep(tokens=64 * 30_000)
    running = subprocess.Popen(COMMAND, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: any(Path("sweep/trial-0").glob("checkpoint-*")) or running.poll() is not None)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1]
    assert running.returncode == 75 and said.count("\n") == 1 and "run the same command again" in said
    (left,) = optuna.load_study(storage="sqlite:///sweep/study.db", study_name="sweep").trials
    assert left.state.name == "RUNNING"
    assert json.loads(Path("sweep/trial-0/run_status.json").read_text())["state"] == "stopped"


BAD = {
    "a sweep that isn't there": (None, {}, "no such sweep"),
    "an unknown key": ({"vary": {"learning_rat": {"uniform": [0, 1]}}}, {}, "did you mean learning_rate?"),
    "an empty space": ({"vary": {}}, {}, "vary is {}"),
    "no base": ({"recipe": "gone.json"}, {}, "gone.json: there is no such recipe"),
    "another split": ({"vary": {"seed": {"integer": [1, 4]}}}, {}, "seed can't be varied: it chooses the validation"),
    "no text": ({}, {"train_file": "gone.txt"}, "gone.txt"),
}


@pytest.mark.parametrize(("changes", "of_recipe", "says"), BAD.values(), ids=list(BAD))
def test_bad_input_gets_one_line_and_leaves_nothing(workplace, capsys, changes, of_recipe, says):
    write_recipe(**of_recipe)
    if changes is not None:
        write_sweep(**changes)
    before = set(Path().rglob("*"))
    assert main(["sweep", "sweep.json"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and says in said
    assert set(Path().rglob("*")) == before


def test_a_study_of_another_space_and_a_target_that_is_not_there(workplace, capsys):
    run_through(Study(make_sweep()), lambda one: outcome(3.0))
    write_sweep(vary={"n_layer": {"integer": [1, 2]}})
    assert main(["sweep", "sweep.json"]) == 2
    assert "made with another search: vary learning_rate was" in capsys.readouterr().err
    assert main(["sweep", "sweep.json", "--transfer_to", "gone.json"]) == 2
    assert "gone.json: there is no such recipe" in capsys.readouterr().err


def test_a_finished_sweep_says_what_it_found_and_carries_it_over(workplace, capsys):
    run_through(Study(make_sweep()), lambda one: outcome(3.0 + one.values["learning_rate"]))
    write_recipe("large.json", n_embd=64, gradient_accumulation_steps=1, max_steps=9)
    assert main(["sweep", "sweep.json", "--transfer_to", "large.json"]) == 0
    said = capsys.readouterr().out
    assert "trial  learning_rate" in said and "sweep/large-scaled.json" in said
    assert load("sweep/large-scaled.json").model.n_embd == 64
