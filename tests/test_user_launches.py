"""Ways in which people launch a run: each works, or is refused in one line."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env

from clm.launch import preflight
from tests.tiny import ROOT, launch, run, write_recipe

BIN = Path(sys.executable).parent
NOWHERE = {"HOME": "/proc/nowhere", "HF_HOME": "/proc/nowhere/hf"}  # not even root can write there


def started(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """A command as a user types it, in the current folder and without a path to this project."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, env={**own, **environment}, timeout=300)


def test_python_alone_from_another_folder_with_a_recipe_of_ones_own_and_no_home(workplace, monkeypatch):
    place = Path("Über uns")
    place.mkdir()
    Path("text.txt").rename(place / "der Text.txt")
    monkeypatch.chdir(place)
    recipe = Path(write_recipe("mein Rezept.json", train_file="der Text.txt", max_steps=1)).resolve()
    done = started(sys.executable, str(ROOT / "run_clm.py"), "--config", str(recipe), **NOWHERE)
    assert done.returncode == 0 and done.stderr == ""
    assert f"recipe: {recipe}\n" in done.stdout and Path("out/model.safetensors").is_file()
    assert Path("out/loss_curve.png").is_file()  # whose library wants a home


# An accelerate file in the user's home, as `accelerate config` writes it


def home_with(content: str) -> dict[str, str]:
    default = Path("home/accelerate/default_config.yaml")
    default.parent.mkdir(parents=True)
    default.write_text(f"compute_environment: LOCAL_MACHINE\nnum_machines: 1\n{content}")
    return {"HF_HOME": str(Path("home").resolve())}


DEEPSPEED = """distributed_type: DEEPSPEED
deepspeed_config:
  zero_stage: 3
  zero3_init_flag: true
mixed_precision: bf16
num_processes: 2
"""


def test_the_file_of_the_project_is_read_instead_of_one_for_deepspeed(workplace):
    home = home_with(DEEPSPEED)
    script = (str(ROOT / "run_clm.py"), "--config", "tiny.json", "--max_steps", "1")
    done = launch(*script, **home)  # accelerate itself ends before a line of ours is run
    assert done.returncode == 1 and "DeepSpeed is not installed" in done.stderr and not Path("out").exists()
    done = launch("--config_file", str(ROOT / "accelerate_config.yaml"), *script, **home)
    assert done.returncode == 0 and done.stderr == ""


def test_another_precision_in_it_is_refused_once_by_all_its_processes(workplace):
    home = home_with("distributed_type: MULTI_GPU\nmixed_precision: fp16\nnum_processes: 2\n")
    done = launch(str(ROOT / "run_clm.py"), "--config", "tiny.json", **home)
    assert done.returncode == 1 and done.stderr.count("error: ") == 1 and not Path("out").exists()
    assert "default_config.yaml sets mixed_precision: fp16, the recipe bf16: false" in done.stderr


def test_the_way_out_that_is_named_overrules_the_file(workplace, monkeypatch):
    home_with("distributed_type: 'NO'\nmixed_precision: fp16\nnum_processes: 1\n")
    file = ["--config_file", "home/accelerate/default_config.yaml"]
    for words, precision in (([], "fp16"), (["--mixed_precision", "no"], "no")):
        args, _, _ = _validate_launch_command(launch_command_parser().parse_args([*file, *words, "run_clm.py"]))
        _, environment = prepare_simple_launcher_cmd_env(args)
        assert environment["ACCELERATE_MIXED_PRECISION"] == precision
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    preflight.check_precision(bf16=True)


# Without a launcher


def test_in_a_notebook_it_runs_and_leaves_the_signals_as_they_were(workplace, capsys):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    async def cell():  # a notebook's code runs inside an event loop
        return run("--max_steps", "1")

    assert asyncio.run(cell()) == 0
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run("--output_dir", "other")))
    capsys.readouterr()
    thread.start()
    thread.join()
    error = capsys.readouterr().err
    assert codes == [2] and error.count("\n") == 1 and "call it in the main thread" in error
    assert not Path("other").exists()


# Two at once, and a disk that is nearly full


def test_two_runs_at_once_share_a_cache(workplace):
    write_recipe(max_steps=1)
    script = [str(ROOT / "run_clm.py"), "--config", "tiny.json", "--output_dir"]
    starts = [[sys.executable, *script, "one"], [str(BIN / "torchrun"), "--nproc_per_node", "1", *script, "two"]]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}  # without it accelerate warns, under torchrun
    both = [subprocess.Popen(words, stdout=-1, stderr=-1, text=True, env=quiet) for words in starts]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0] and [error for _, error in said] == ["", ""]
    assert sum("tokenizer: training" in out for out, _ in said) == 1  # the other one waits, and takes it
    weights = [Path(out, "model.safetensors").read_bytes() for out in ("one", "two")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("folder", ["tokenizer", ".cache"])
def test_a_disk_that_is_nearly_full_is_one_line_before_training(workplace, capsys, folder):
    Path(folder).mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        assert run() == 74
    finally:
        subprocess.run(["umount", folder], check=True)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "the disk is full" in error and "free some space" in error
    assert not list(Path("out").glob("checkpoint-*"))
