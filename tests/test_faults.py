"""Faults put into whole runs: each costs at most a start, and the run ends with the weights of an undisturbed one."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import run_clm
from clm.data.blocks import Blocks
from clm.evaluation import validation
from clm.launch import run_lock
from clm.model.gpt2 import GPT2LMHeadModel
from clm.training import text
from clm.training.checkpoint import manifest
from clm.training.checkpoint.writer import CheckpointWriter
from clm.training.trainer import ClmTrainer
from tests.chaos import differences
from tests.tiny import ROOT, make_text, run, write_recipe

STEPS = 6
EVERY_STEP = {"max_steps": STEPS, "save_steps": 1, "eval_steps": 1, "save_total_limit": 20}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder where the run was done that the tests here disturb."""
    folder = tmp_path_factory.mktemp("run")
    with chdir(folder):
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe(**EVERY_STEP)
        assert run() == 0
    return folder


@pytest.fixture
def place(workplace, undisturbed):
    """A folder with the same text, as far as the run goes, and what it has built of it."""
    write_recipe(**EVERY_STEP, train_file=str(undisturbed / "text.txt"))
    for name in ("tokenizer", ".cache"):
        shutil.copytree(undisturbed / name, name)
    return workplace


@pytest.fixture
def copy(place, undisturbed):
    """The same with the run in it, as if killed before the end of its last step's work."""
    shutil.copytree(undisturbed / "out", "out")
    for name in ("run_status.json", "model.safetensors", "all_results.json"):
        Path("out", name).unlink()
    return place


def ends_like(undisturbed: Path) -> bool:
    assert run() == 0
    assert differences(undisturbed / "out", Path("out")) == []
    return True


def status() -> dict:
    return json.loads(Path("out/run_status.json").read_text())


def one_line(text: str) -> str:
    assert text.count("\n") == 1 and "Traceback" not in text, text
    return text


def test_damaged_checkpoints_are_named_and_passed_over(copy, undisturbed, capsys):
    truncated, flipped, missing, empty = (Path(f"out/checkpoint-{step}") for step in (6, 5, 4, 3))
    os.truncate(truncated / "model.safetensors", 1000)
    with (flipped / "optimizer.pt").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    (missing / "scheduler.pt").unlink()
    shutil.rmtree(empty)
    empty.mkdir()
    assert ends_like(undisturbed)
    said = capsys.readouterr().out
    for line in (
        "passing over out/checkpoint-6: model.safetensors has 1,000 of",
        "passing over out/checkpoint-5: optimizer.pt isn't what was written",
        "passing over out/checkpoint-4: it lacks scheduler.pt",
        "passing over out/checkpoint-3: it is empty",
        "resuming from out/checkpoint-2",
    ):
        assert line in said


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_checkpoint_without_a_part_of_its_state_is_refused(copy, capsys, name):
    Path("out/checkpoint-2", name).unlink()
    assert run("--resume_from_checkpoint", "out/checkpoint-2") == 2
    assert f"out/checkpoint-2 isn't intact: it lacks {name}" in one_line(capsys.readouterr().err)


def test_where_no_checkpoint_is_whole_the_run_does_not_start_afresh(copy, capsys):
    for folder in Path("out").glob("checkpoint-*"):
        (folder / "optimizer.pt").write_bytes(b"")
    assert run() == 2
    assert "none of its 6 checkpoints is intact" in one_line(capsys.readouterr().err)


def test_a_checkpoint_whose_best_model_is_damaged_is_passed_over(copy, undisturbed, capsys):
    newest = Path("out/checkpoint-6")
    state = json.loads((newest / "trainer_state.json").read_text())
    (newest / "trainer_state.json").write_text(json.dumps(state | {"best_global_step": 5}))
    written = manifest.manifest_of(newest)
    (newest / manifest.MANIFEST).unlink()
    manifest.write(newest, {key: written[key] for key in ("step", "world_size", "recipe", "data")}, {})
    Path("out/checkpoint-5/model.safetensors").unlink()
    assert ends_like(undisturbed)
    said = capsys.readouterr().out
    assert "passing over out/checkpoint-6: checkpoint-5, the best until then, can't be used: it lacks model" in said
    assert "resuming from out/checkpoint-4" in said


def test_a_rename_that_a_kill_prevented_is_done_later(copy, undisturbed, capsys):
    Path("out/checkpoint-6").rename("out/.checkpoint-6.tmp")
    assert ends_like(undisturbed)
    assert "resuming from out/checkpoint-6" in capsys.readouterr().out


def test_what_killed_writes_left_half_done_is_gone_after_the_next_start(copy, undisturbed):
    for name in (".export.tmp/model.safetensors", ".checkpoint-7.tmp/optimizer.pt", ".checkpoint-1.gone/optimizer.pt"):
        Path("out", name).parent.mkdir()
        Path("out", name).write_bytes(b"half")
    Path("out/.samples.jsonl.tmp-12345").write_text("half")
    Path("out/.notes").write_text("somebody's own")
    assert run() == 0
    assert [path.name for path in Path("out").glob(".*")] == [".notes"]


def test_samples_are_logged_once_however_often_the_run_goes_on(copy, undisturbed):
    for step in (6, 5):  # their evaluations are in the log, and come again
        shutil.rmtree(f"out/checkpoint-{step}")
    before = Path("out/samples.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in before.splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6] and len(set(map(steps.count, steps))) == 1
    assert ends_like(undisturbed)  # that looks at the samples, too
    assert Path("out/samples.jsonl").read_text() == before


def test_a_run_whose_last_step_was_saved_takes_no_further_one(copy, undisturbed, capsys):
    assert ends_like(undisturbed)
    assert "step 6/6" not in capsys.readouterr().out


def test_a_clock_set_back_changes_nothing(copy, undisturbed, monkeypatch, capsys):
    shutil.rmtree("out/checkpoint-6")
    for age, folder in enumerate(sorted(Path("out").glob("checkpoint-*"))):
        os.utime(folder, (10**9 - age, 10**9 - age))
    ticks = itertools.count(10**9)
    monkeypatch.setattr("time.time", lambda: float(next(ticks)))
    assert ends_like(undisturbed)
    assert "resuming from out/checkpoint-5" in capsys.readouterr().out


# Signals


def ask_to_stop(monkeypatch, owner: object, name: str, call: int, after: bool = False) -> None:
    """Let the process get SIGTERM before (or after) it calls `owner.name` for the so many-th time."""
    calls, original = [], getattr(owner, name)

    def asked(*args, **kwargs):
        calls.append(name)
        if len(calls) == call and not after:
            os.kill(os.getpid(), signal.SIGTERM)
        result = original(*args, **kwargs)
        if len(calls) == call and after:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(owner, name, asked)


@pytest.mark.parametrize(
    ("owner", "name", "call", "saved"),
    [
        (ClmTrainer, "training_step", 8, 3),  # of 3 micro-batches a step: in the third step
        (validation, "score_store", 3, 3),  # in the third evaluation
        (CheckpointWriter, "start", 4, 5),  # as checkpoint-4 begins to be saved, so in the fifth step
        (validation, "score_store", 7, 6),  # in the last evaluation, after training
        (ClmTrainer, "export", 1, 6),
        (text, "prepare", 1, None),
        (run_clm, "make_trainer", 1, None),
    ],
    ids=["step", "evaluation", "save", "last evaluation", "export", "preparation", "model"],
)
def test_a_signal_stops_the_run_and_the_same_command_goes_on(
    place, undisturbed, monkeypatch, capsys, owner, name, call, saved
):
    with monkeypatch.context() as patch:
        ask_to_stop(patch, owner, name, call)
        assert run() == 75
    said = one_line(capsys.readouterr().err)
    assert said.startswith("stopped: by SIGTERM") and "run the same command again" in said
    assert not Path("out/model.safetensors").exists() and not Path("out/all_results.json").exists()
    if saved:
        assert (status()["state"], status()["exit_code"]) == ("stopped", 75)
        newest = max(Path("out").glob("checkpoint-*"))
        assert newest.name == f"checkpoint-{saved}" and manifest.fault(newest) is None
    else:
        assert not Path("out").exists()
    assert ends_like(undisturbed)


def test_a_time_limit_stops_the_run_like_a_signal(place, capsys):
    write_recipe(max_steps=100_000, train_file=str(Path("text.txt").resolve()), eval_strategy="no",
                 load_best_model_at_end=False, save_strategy="no", logging_steps=1000)  # fmt: skip
    assert run("--stop_after_minutes", "0.05") == 75
    assert "stopped: by stop_after_minutes after step" in one_line(capsys.readouterr().err)
    assert len(list(Path("out").glob("checkpoint-*"))) == 1  # also where none was asked for


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_launcher_of_one_process_that_is_ended_takes_its_run_along(place, undisturbed):
    write_recipe(**EVERY_STEP | {"max_steps": 100_000}, train_file=str(undisturbed / "text.txt"))
    command = [str(Path(sys.executable).parent / "accelerate"), "launch", str(ROOT / "run_clm.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launched = subprocess.Popen(
        [*command, "--config", "tiny.json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with launched:
        for line in launched.stdout:
            if line.startswith("step 3/"):
                launched.terminate()
                break
        last = launched.stdout.read().splitlines()[-1]  # its end is the end of the run, not of the launcher
    assert last.startswith("stopped: by the end of its launcher after step")
    assert (status()["state"], status()["exit_code"]) == ("stopped", 75)


# The machine


def test_a_loss_that_is_not_a_number_stops_before_the_weights_are_touched(place, undisturbed, monkeypatch, capsys):
    calls, forward = [], GPT2LMHeadModel.forward

    def poisoned(self, *args, **kwargs):
        out = forward(self, *args, **kwargs)
        if kwargs.get("labels") is not None:
            calls.append(1)
            if len(calls) == 3 * 3 + 2:  # within the fourth step
                out.loss = out.loss * torch.nan
        return out

    with monkeypatch.context() as patch:
        patch.setattr(GPT2LMHeadModel, "forward", poisoned)
        assert run() == 74
    said = one_line(capsys.readouterr().err)
    assert "isn't finite at step 4 (learning rate 0.00868, batch 4 of epoch 1)" in said
    assert status()["state"] == "failed" and manifest.fault(Path("out/checkpoint-3")) is None
    assert not Path("out/checkpoint-4").exists()
    assert ends_like(undisturbed)


@pytest.mark.parametrize("policy", ["warn", "skip", "rollback"])
def test_a_loss_spike_gets_what_the_recipe_asks_for(place, monkeypatch, capsys, policy):
    write_recipe(loss_spike=policy, max_steps=25, save_steps=10, learning_rate=1e-4, save_total_limit=9,
                 eval_strategy="no", load_best_model_at_end=False)  # fmt: skip
    calls, forward = [], GPT2LMHeadModel.forward

    def spiking(self, *args, **kwargs):
        out = forward(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == 3 * 24 + 1:
            out.loss = out.loss + 4.0
        return out

    monkeypatch.setattr(GPT2LMHeadModel, "forward", spiking)
    assert run() == 0
    said = capsys.readouterr().out
    assert "warning: the loss of step 25 (learning rate" in said
    last, saved = load_file("out/checkpoint-25/model.safetensors"), load_file("out/checkpoint-20/model.safetensors")
    back = all(last[name].equal(saved[name]) for name in last)
    moments = [torch.load(f"out/checkpoint-{step}/optimizer.pt")["state"][0]["exp_avg"] for step in (20, 25)]
    assert back == moments[0].equal(moments[1]) == (policy == "rollback")
    assert {"warn": "would leave it out", "skip": "stay as they were", "rollback": "weights of step 20"}[policy] in said


def test_a_skipped_step_leaves_weights_and_optimizer_alone(place, monkeypatch):
    write_recipe(**EVERY_STEP | {"max_steps": 3}, loss_spike="skip")
    seen = []
    monkeypatch.setattr(
        "clm.training.callbacks.loss_spikes.LossSpikes.is_one", lambda *_: seen.append(1) or len(seen) == 3
    )
    assert run() == 0
    before, after = (load_file(f"out/checkpoint-{step}/model.safetensors") for step in (2, 3))
    assert all(before[name].equal(after[name]) for name in before)
    moments = [torch.load(f"out/checkpoint-{step}/optimizer.pt")["state"][0]["exp_avg"] for step in (2, 3)]
    assert moments[0].equal(moments[1])


def test_a_worker_that_dies_is_one_line(place, monkeypatch, capfd):
    def die(self, _):
        if torch.utils.data.get_worker_info() is not None:
            os._exit(1)

    monkeypatch.setattr(Blocks, "__getitems__", die, raising=False)
    assert run("--dataloader_num_workers", "1") == 74
    assert "a worker that reads data has died" in capfd.readouterr().err


# Folders


def test_a_second_run_in_a_folder_stops_and_names_the_first(place, undisturbed, capsys):
    with run_lock.held(Path("out"), print):
        assert run() == 2
        said = one_line(capsys.readouterr().err)
        assert f"process {os.getpid()} on {os.uname().nodename} is running there" in said
    assert not Path("out").exists()


def test_the_lock_of_a_dead_process_is_taken_over(place, undisturbed):
    Path("out").mkdir()
    Path("out/.lock").write_text("process 1 on elsewhere\n")
    assert ends_like(undisturbed)
    assert not Path("out/.lock").exists()


@pytest.fixture
def small_disk(place):
    """A file system of 8 MB, as the folder `out`."""
    Path("out").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "out"], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield Path("out")
    subprocess.run(["umount", "out"], check=True)


@pytest.mark.parametrize("checked", [True, False], ids=["before the save", "within the save"])
def test_on_a_full_disk_the_older_checkpoints_stay_whole(small_disk, undisturbed, monkeypatch, capsys, checked):
    write_recipe(**EVERY_STEP, train_file=str(undisturbed / "text.txt"))
    with Path("out/filler").open("wb") as filler:  # room for some three checkpoints of a quarter of a megabyte
        filler.write(b"\0" * (7_400_000 - checked * 4_200_000))
    with monkeypatch.context() as patch:
        if not checked:
            patch.setattr(CheckpointWriter, "_no_room", lambda *_: None)
        assert run() == 74
    *warnings, error = capsys.readouterr().err.splitlines()
    assert warnings and all("isn't saved" in line for line in warnings)
    assert error.startswith("error: ") and "make room, then run the same command again" in error
    left = list(Path("out").glob("checkpoint-*"))
    assert left and len(left) < STEPS and all(manifest.fault(folder) is None for folder in left)
    Path("out/filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", "out"], check=True)
    assert ends_like(undisturbed)


def test_a_read_only_disk_is_refused(place, capsys):
    Path("out").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "out"], capture_output=True).returncode:
        pytest.skip("only root can mount a read-only disk")
    try:
        assert run() == 2
        assert "output_dir out: no permission to write in out" in one_line(capsys.readouterr().err)
    finally:
        subprocess.run(["umount", "out"], check=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_folder_in_proc_is_refused(place, capsys):
    assert run("--output_dir", "/proc/out") == 2
    assert "/proc can't be written" in one_line(capsys.readouterr().err)
