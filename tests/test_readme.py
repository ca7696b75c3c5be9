"""Every command in the README is run by a test below, as written but for toy sizes and a Hub of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clm.__main__ import main as clm
from tests.hub_server import HubServer
from tests.test_docs import ROOT
from tests.tiny import make_text
from tests.wikitext import add_wikitext, wikitext_rows

README = (ROOT / "README.md").read_text("utf-8")
SMALL = ["--max_steps", "4", "--eval_steps", "2", "--save_steps", "2", "--logging_steps", "1", "--n_layer", "1",
         "--n_head", "2", "--n_embd", "16", "--block_size", "16", "--vocab_size", "300", "--use_cpu"]  # fmt: skip
OWN_TEXT = "accelerate launch -q run_clm.py --config recipes/own-text.json"
QUICKSTART = "accelerate launch -q --config_file accelerate_config.yaml run_clm.py --config recipes/quickstart.json"
WT103 = "run_clm.py --config recipes/wt103.json"
ON_8 = "accelerate launch -q --config_file recipes/accelerate/ddp.yaml --num_processes 8"
PUSHED = f"{OWN_TEXT} --push_to_hub --hub_model_id you/name"
PUSH = "python -m clm push runs/own-text --hub_model_id you/name"
OF_A_LOG = (
    "python -m clm explain main.log --n_layer 12 --n_embd 768 --vocab_size 50257 --block_size 1024 "
    "--global_batch_size 512 --max_steps 19560 --learning_rate 6e-4 --lr_scheduler_type cosine"
)
OF_NO_RUN = [
    "python -m clm explain --config recipes/wt103-seed.json --step 3000 --loss 3.9",
    "python -m clm plan --config recipes/wt103.json --device h100",
    "python -m clm plan --config recipes/wt103.json --processes 32 --device h100",
]
OF_A_RUN = [
    'python -m clm generate --model runs/own-text --prompt "Once upon a time"',
    "python -m clm explain runs/own-text",
    "python -m clm runs",
]
TESTED = ["make quickstart", "source .venv/bin/activate", f"{OWN_TEXT} --train_file my_text/", PUSHED, PUSH, OF_A_LOG,
          f"accelerate launch -q {WT103}", f"{ON_8} {WT103}", *OF_NO_RUN, *OF_A_RUN]  # fmt: skip


def commands() -> list[str]:
    """The commands in the README's blocks, without their comments."""
    whole = re.sub(r"\\\n +", "", README)  # a line that ends with a backslash goes on
    lines = [line for block in re.findall(r"^```\n(.*?)^```", whole, re.M | re.S) for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines if re.match(r"(make|source|accelerate|python|docker) ", line)]


def test_every_command_is_one_that_a_test_below_runs():
    assert sorted(commands()) == sorted(TESTED)


@pytest.fixture
def clone(workplace):
    """The current folder as a user's clone, with a text."""
    shutil.copytree(ROOT / "recipes", "recipes")
    Path("my_text").mkdir()
    Path("my_text/story.txt").write_text(make_text(400), "utf-8")
    return workplace


def words(command: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]


def launch(command: str, *more: str, hub: HubServer | None = None) -> subprocess.CompletedProcess:
    """Run the README's line with `more` words at its end, on this repository's program."""
    program = [str(Path(sys.executable).parent / "accelerate"), *words(command)[1:], *more]
    program[program.index("run_clm.py")] = str(ROOT / "run_clm.py")
    environment = hub.env(Path("home").resolve()) if hub else dict(os.environ)
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(program, capture_output=True, text=True, env=environment)


def test_own_text_from_training_to_explanation(clone, capsys):
    done = launch(f"{OWN_TEXT} --train_file my_text/", *SMALL)
    assert done.returncode == 0, done.stderr
    for command in OF_A_RUN:
        capsys.readouterr()
        assert clm(words(command)[3:]) == 0, command
        assert capsys.readouterr().out, command


def test_the_launcher_adds_nothing_after_our_line(clone):
    done = launch(f"{OWN_TEXT} --train_file nowhere/")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr


def test_a_run_is_pushed_at_its_end_and_by_the_command(clone):
    with HubServer() as hub:
        done = launch(PUSHED, *SMALL, hub=hub)
        assert done.returncode == 0, done.stderr
        pushed = dict(hub.repos["model", "you/name"].files)
        hub.repos.clear()
        again = subprocess.run(
            [sys.executable, *words(PUSH)[1:]],
            capture_output=True, text=True, env=hub.env(Path("home").resolve()) | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
        assert hub.repos["model", "you/name"].files.keys() == pushed.keys()
    assert {"model.safetensors", "README.md", "report.html"} <= pushed.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "processes"), [(f"accelerate launch -q {WT103}", 1), (f"{ON_8} {WT103}", 2)])
def test_wikitext_103_on_one_device_and_on_several(clone, monkeypatch, command, processes):
    """Two processes on this CPU in the place of eight GPUs; test_full_size.py has the model at its full size."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with HubServer() as hub:
        add_wikitext(hub, wikitext_rows(40, seed=0), wikitext_rows(3, seed=1), wikitext_rows(2, seed=2))
        line = command.replace("--num_processes 8", f"--num_processes {processes}")
        done = launch(line, *SMALL, hub=hub)
    assert done.returncode == 0, done.stderr
    assert f"processes: {processes}" in done.stdout and "step 4/4" in done.stdout


def test_a_log_of_any_trainer_is_explained(workplace, capsys):
    rows = [f"step {step}: loss {10.8 * step**-0.12:.4f}" for step in range(100, 5100, 100)]
    Path("main.log").write_text("\n".join(rows), "utf-8")
    assert clm(words(OF_A_LOG)[3:]) == 0
    said = " ".join(capsys.readouterr().out.split())  # it wraps its lines
    assert "50 of 50 lines" in said and "is to be expected" in said and "At step 19,560 the training loss" in said


@pytest.mark.parametrize("command", OF_NO_RUN)
def test_what_needs_no_training_is_answered(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert clm([*words(command)[3:], *(["--dataset_tokens", "117000000"] if "plan" in command else [])]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="the tests run in no environment of their own")
def test_the_environment_is_one_that_is_activated():
    asked = f"source {sys.prefix}/bin/activate && command -v accelerate"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == Path(sys.prefix, "bin/accelerate")


@pytest.mark.slow
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="the tests run in no environment of their own")
def test_make_quickstart_trains_to_its_loss(tmp_path):
    """The environment is the tests' own; the shell, the launcher and the training are the user's."""
    for name in ("Makefile", "accelerate_config.yaml", "run_clm.py", "clm", "recipes", "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(["make", "-o", ".venv/.run", "quickstart"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loss = re.search(r"^validation loss +([\d.]+) +nats per token", done.stdout, re.M)
    assert 3.76 < float(loss[1]) < 3.86  # README: 3.8092; the number of threads moves the last digits


def test_make_quickstart_launches_the_recipe():
    dry = subprocess.run(
        ["make", "--no-print-directory", "-n", "quickstart"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert dry.stdout.splitlines()[-1] == f".venv/bin/{QUICKSTART}"
