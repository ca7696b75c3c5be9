"""Two machines made of network namespaces, each with its own address, train together, lose each other, and go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import differences, ends, start
from tests.tiny import ROOT, write_recipe

pytestmark = pytest.mark.slow
TIMEOUT = 15  # seconds that a process waits for another one
RECIPE = {"max_steps": 100, "save_steps": 10, "eval_steps": 10, "gradient_accumulation_steps": 1, "save_total_limit": 3}
ADDRESSES = ("10.213.0.1", "10.213.0.2")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two network namespaces that a virtual cable joins."""
    names = [f"clm-{os.getpid()}-{number}" for number in range(2)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
            for name, address in zip(names, ADDRESSES, strict=True):
                ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    ip("-n", name, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs iproute2 and the right to make network namespaces: {getattr(error, 'stderr', error)}")
        yield names
    finally:
        if shutil.which("ip"):
            for name in names:
                subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def launch(names: list[str]) -> list[subprocess.Popen]:
    """The line of multi_node.yaml on each machine."""
    runs = []
    for rank, name in enumerate(names):
        accelerate = [str(Path(sys.executable).parent / "accelerate"), "launch"]
        file = ["--config_file", str(ROOT / "recipes/accelerate/multi_node.yaml")]
        shape = ["--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank)]
        recipe = [str(ROOT / "run_clm.py"), "--config", "tiny.json", "--ddp_timeout", str(TIMEOUT)]
        command = ["ip", "netns", "exec", name, *accelerate, *file, *shape, "--main_process_ip", ADDRESSES[0], *recipe]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "GLOO_SOCKET_IFNAME": "eth0",
        }
        with Path(f"log-{rank}.txt").open("w") as log:
            runs.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
    return runs


def log(rank: int) -> str:
    return Path(f"log-{rank}.txt").read_text()


def wait_for_step(step: int, runs: list[subprocess.Popen]) -> None:
    until = time.monotonic() + 150
    while f"step {step}/" not in log(0):
        assert time.monotonic() < until and all(run.poll() is None for run in runs), log(0) + log(1)
        time.sleep(0.05)


def end_by_themselves(runs: list[subprocess.Popen]) -> None:
    until = time.monotonic() + TIMEOUT + 60  # and what launchers take to see it
    for run in runs:
        try:
            run.wait(until - time.monotonic())
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            pytest.fail(f"still there {TIMEOUT + 60} s later:\n{log(0)}\n{log(1)}")


@pytest.mark.parametrize("fault", ["the link is cut", "a machine dies"])
def test_machines_that_lose_each_other_end_and_go_on_exactly(workplace, machines, fault):
    write_recipe(**RECIPE)
    assert set(ends(start(Path.cwd(), "undisturbed", 2))) == {0}

    runs = launch(machines)
    wait_for_step(25, runs)
    assert "processes: 2" in log(0) and log(1).count("step ") == 0  # one writes and prints
    if fault == "the link is cut":
        ip("-n", machines[1], "link", "set", "eth0", "down")
    else:
        inside = subprocess.run(["ip", "netns", "pids", machines[1]], capture_output=True, text=True).stdout
        for process in inside.split():
            os.kill(int(process), signal.SIGKILL)
    end_by_themselves(runs)
    assert all(run.returncode != 0 for run in runs)
    for rank in (0, 1) if fault == "the link is cut" else (0,):
        said = [line for line in log(rank).splitlines() if line.startswith("error: ")]
        assert len(said) == 1 and said[0].startswith("error: another process of this run "), log(rank)
        assert said[0].endswith("then run the same command again")
    status = json.loads(Path("out/run_status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 74), status

    ip("-n", machines[1], "link", "set", "eth0", "up")
    runs = launch(machines)
    assert [run.wait(240) for run in runs] == [0, 0], log(0) + log(1)
    assert "resuming from out/checkpoint-" in log(0)
    assert differences(Path("undisturbed"), Path("out")) == []
