"""Every command in the README is run: here, or by the whole-program test that the table names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clm.__main__ import main as clm
from tests.test_docs import ROOT, defines
from tests.tiny import make_text

README = (ROOT / "README.md").read_text("utf-8")
SMALL = ["--max_steps", "4", "--eval_steps", "2", "--save_steps", "2", "--logging_steps", "1", "--n_layer", "1",
         "--n_head", "2", "--n_embd", "16", "--block_size", "16", "--vocab_size", "300", "--use_cpu"]  # fmt: skip
OWN_TEXT = "accelerate launch -q run_clm.py --config recipes/own-text.json"
WT103 = "run_clm.py --config recipes/wt103.json"

HERE = {  # run by a test below, as written
    "make quickstart",
    f"{OWN_TEXT} --train_file my_text/",
    'python -m clm generate --model runs/own-text --prompt "Once upon a time"',
    "python -m clm explain --config recipes/wt103-seed.json --step 3000 --loss 3.9",
    "python -m clm explain runs/own-text",
    "python -m clm runs",
    "python -m clm plan --config recipes/wt103.json --device h100",
    "python -m clm plan --config recipes/wt103.json --processes 32 --device h100",
}
ELSEWHERE = {  # needs a Hub or several processes: run by this test, on a smaller recipe or a server of its own
    f"accelerate launch -q {WT103}": "tests/test_full_size.py::test_wt103_runs_two_optimizer_steps_on_a_cpu",
    f"accelerate launch -q --config_file recipes/accelerate/ddp.yaml --num_processes 8 {WT103}":
        "tests/test_launching.py::test_accelerate_takes_the_file_and_the_line_in_it",
    f"{OWN_TEXT} --push_to_hub --hub_model_id you/name":
        "tests/test_push.py::test_a_finished_run_is_pushed_whole_and_without_its_checkpoints",
    "python -m clm push runs/own-text --hub_model_id you/name":
        "tests/hub/test_background.py::test_what_stays_ends_in_a_finished_run_and_the_command_that_pushes_it",
    "python -m clm explain main.log --n_layer 12 --n_embd 768 --vocab_size 50257 --block_size 1024 "
    "--global_batch_size 512":
        "tests/explain/test_any_log.py::test_keys_may_come_from_the_command_line_alone_and_stand_anywhere",
    "source .venv/bin/activate": "tests/test_readme.py::test_make_quickstart_launches_the_recipe",
}  # fmt: skip


def commands() -> list[str]:
    """The commands in the README's blocks, without their comments."""
    lines = [line for block in re.findall(r"^```\n(.*?)^```", README, re.M | re.S) for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines if re.match(r"(make|source|accelerate|python|docker) ", line)]


def test_every_command_is_one_that_a_test_runs():
    assert sorted(commands()) == sorted([*HERE, *ELSEWHERE])


@pytest.mark.parametrize("test", sorted(ELSEWHERE.values()))
def test_the_tests_of_the_others_are_there(test):
    file, name = test.split("::")
    assert defines((ROOT / file).read_text("utf-8"), name)


@pytest.fixture
def clone(workplace):
    """The current folder as a user's clone, with a text."""
    shutil.copytree(ROOT / "recipes", "recipes")
    Path("my_text").mkdir()
    Path("my_text/story.txt").write_text(make_text(400), "utf-8")
    return workplace


def words(command: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]


def test_own_text_from_training_to_explanation(clone, capsys):
    program = [str(Path(sys.executable).parent / "accelerate"), *words(f"{OWN_TEXT} --train_file my_text/")[1:]]
    program[program.index("run_clm.py")] = str(ROOT / "run_clm.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*program, *SMALL], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for command in sorted(HERE):
        if ("own-text" in command and command.startswith("python")) or command.endswith("runs"):
            capsys.readouterr()
            assert clm(words(command)[3:]) == 0, command
            assert capsys.readouterr().out, command


def test_the_launcher_adds_nothing_after_our_line(clone):
    program = [str(Path(sys.executable).parent / "accelerate"), *words(f"{OWN_TEXT} --train_file nowhere/")[1:]]
    program[program.index("run_clm.py")] = str(ROOT / "run_clm.py")
    done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", sorted(command for command in HERE if "plan" in command or "--loss" in command))
def test_what_needs_no_training_is_answered(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert clm([*words(command)[3:], *(["--dataset_tokens", "117000000"] if "plan" in command else [])]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_make_quickstart_launches_the_recipe():
    dry = subprocess.run(
        ["make", "--no-print-directory", "-n", "quickstart"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert dry.stdout.splitlines()[-1] == ".venv/bin/accelerate launch -q run_clm.py --config recipes/quickstart.json"
