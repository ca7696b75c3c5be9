"""A machine that is too small, and a process that hangs, in real runs: one line with what to change, exit code 74."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import chaos
from tests.tiny import ROOT, make_text, start_processes, write_recipe

SHORT_OF_MEMORY = """
import resource, sys
import run_clm
from clm.training.trainer import ClmTrainer
original = ClmTrainer.training_step
def step(self, *args, **kwargs):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**23, resource.RLIM_INFINITY))
    return original(self, *args, **kwargs)
ClmTrainer.training_step = step
sys.exit(run_clm.main(["--config", "tiny.json"]))
"""


ONE_FAILS = """
import os, sys, threading
import torch
import run_clm
from torch import distributed
from clm.training.trainer import ClmTrainer

def wait_for_the_others(*_):  # as NCCL does
    print("left its group", flush=True)
    threading.Event().wait()

original = ClmTrainer.training_step
def step(self, *args, **kwargs):
    if os.environ["RANK"] == "1" and self.state.global_step == 3:
        raise {raised}
    return original(self, *args, **kwargs)

distributed.destroy_process_group = wait_for_the_others
ClmTrainer.training_step = step
sys.exit(run_clm.main(["--config", "tiny.json"]))
"""


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("torch.OutOfMemoryError('CUDA out of memory')", 74, "error: process 1 of 2: out of memory: lower per_device"),
        ("KeyError('a defect')", 1, "KeyError: 'a defect'"),
    ],
)
def test_a_process_that_fails_says_so_and_the_other_ends(tmp_path, monkeypatch, raised, code, said):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(make_text(), "utf-8")
    write_recipe(max_steps=100_000, eval_strategy="no", load_best_model_at_end=False)
    both = start_processes(ONE_FAILS.format(raised=raised), 2)
    try:
        (_, first), (out, second) = (process.communicate(timeout=200) for process in both)  # gloo waits for 1,800
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [74, code], first + second
    assert said in second and "left its group" not in out
    assert "another process of this run is gone: look for its own message" in one_error(first)


def one_error(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert "Traceback" not in err
    return line


def test_a_step_that_memory_is_too_small_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(make_text() * 20, "utf-8")
    write_recipe(per_device_train_batch_size=20_000, gradient_accumulation_steps=1, block_size=32, max_steps=2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, env=environment)
    assert done.returncode == 74, done.stderr
    assert "out of memory: lower per_device_train_batch_size" in one_error(done.stderr)
    assert not Path("out/model.safetensors").exists()


def test_a_process_that_hangs_ends_the_other_with_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(make_text(), "utf-8")
    write_recipe(max_steps=100_000, eval_strategy="no", load_best_model_at_end=False, save_steps=1, ddp_timeout=8)
    first, second = run = chaos.start(tmp_path, "out", 2)
    try:
        limit = time.monotonic() + 100
        while not list(Path("out").glob("checkpoint-*")) and time.monotonic() < limit and first.is_alive():
            time.sleep(0.05)
        os.kill(second.pid, signal.SIGSTOP)
        first.join(100)
        assert first.exitcode == 74, Path("log.txt").read_text()
    finally:
        for process in run:
            process.kill()
            process.join()
    assert "gives no answer (ddp_timeout says how long to wait)" in one_error(Path("log.txt").read_text())
    assert list(Path("out").glob("checkpoint-*"))  # to go on from
