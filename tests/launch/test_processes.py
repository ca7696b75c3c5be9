"""What a machine that is too small, or a launch that goes wrong, is turned into."""

import errno
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import distributed

from clm.errors import MachineError, PeerFault, ProcessFault, Stopped, UserError, report
from clm.launch import faults, launcher, processes, signals, status
from tests.tiny import ROOT, start_processes


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "lower per_device_train_batch_size"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (
            torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be"),
            r"the GPU failed.*\(CUDA error: uncorrectable ECC error encountered\): look at nvidia-smi",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "lower per_device_train_batch_size"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "the disk took no more"),
        (RuntimeError("DataLoader timed out after 5 seconds"), "has hung"),
        (RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)"), "/dev/shm.* too small"),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
            "another process of this run is gone",
        ),
        (RuntimeError("[gloo/...] Timed out waiting 5000ms for recv"), "gives no answer .ddp_timeout"),
        (OSError(errno.ENOSPC, "No space left on device", "out/checkpoint-3"), r"disk is full \(out/checkpoint-3\)"),
    ],
)
def test_faults_of_the_machine_say_what_to_change(error, said):
    with pytest.raises(MachineError, match=said) as caught, faults.machine_faults():
        raise error
    assert caught.value.exit_code == 74 and "\n" not in str(caught.value)


NCCL = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:94, unhandled system error (run with "
    "NCCL_DEBUG=INFO for details), NCCL version 2.29.7\nncclSystemError: System call (e.g. socket, malloc) or external "
    "library call failed or device error.\nLast error:\n"
)
SHM = "Error while creating shared memory segment /dev/shm/nccl-1xJ3cm (size 9637888), error: No space left on device"


def test_nccls_own_words_are_kept(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    for words, said in (
        (
            SHM,
            f"error: process 3 of 8: /dev/shm, the memory that processes share, is too small or full ({SHM}): start ",
        ),
        ("Cuda failure 2 'out of memory'", "error: process 3 of 8: the processes can't talk to each other (Cuda fail"),
        ("socketProgress: Connection closed by remote peer node2<40123>", ""),  # the first process says it
    ):
        with pytest.raises(MachineError) as caught, faults.machine_faults():
            raise distributed.DistBackendError(NCCL + words)
        assert words in str(caught.value)
        assert report(caught.value) == 74
        err = capsys.readouterr().err
        assert err.startswith(said) and bool(err) == bool(said) and err.count("\n") == bool(said)


def test_processes_that_share_a_gpu_unasked_are_the_launchs_fault():
    with pytest.raises(UserError, match="the same GPU"), faults.machine_faults():
        raise distributed.DistBackendError(
            f"{NCCL}Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000"
        )


@pytest.mark.parametrize(
    ("error", "rank", "local_rank", "said"),
    [
        (UserError("a"), "0", "0", "error: a\n"),
        (UserError("a"), "2", "0", ""),
        (MachineError("a"), "2", "0", "error: a\n"),
        (MachineError("a"), "1", "1", ""),
        (PeerFault("a"), "1", "1", ""),
        (ProcessFault("a"), "1", "1", "error: process 1 of 4: a\n"),
        (Stopped("a"), "0", "0", "stopped: a\n"),
        (Stopped("a"), "1", "1", ""),
    ],
)
def test_a_line_is_said_once(capsys, monkeypatch, error, rank, local_rank, said):
    for key, value in (("RANK", rank), ("LOCAL_RANK", local_rank), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(key, value)
    assert report(error) == error.exit_code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("ends_by", "exit_code", "said"),
    [
        (None, None, ""),
        (signals.stopped(" after step 3, all saved", agreed=True), None, ""),
        (signals.stopped(), 75, "stopped: by another process; run the same command again to resume\n"),
        (MachineError("a"), 74, "error: a\n"),
        (UserError("a"), 2, "error: a\n"),
        (KeyError("a defect"), 1, "KeyError: 'a defect'\n"),
    ],
)
def test_a_process_that_ends_alone_speaks_and_leaves_its_group_as_it_is(monkeypatch, capsys, ends_by, exit_code, said):
    done = []
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "barrier", lambda: done.append("met"))
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: done.append("destroyed"))
    monkeypatch.setattr(os, "_exit", lambda code: done.append((code, capsys.readouterr().err)))
    with suppress(MachineError, UserError, Stopped, KeyError), processes.processes():
        if ends_by:
            raise ends_by
    if exit_code is None:
        assert done == ["met", "destroyed"]
        return
    ((code, printed),) = done
    assert code == exit_code and printed.endswith(said)


def test_one_process_alone_ends_as_any_program(monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("it didn't unwind"))
    with pytest.raises(KeyError), processes.processes():
        raise KeyError("a defect")


def test_other_faults_stay_what_they_are():
    with pytest.raises(OSError, match="Input/output"), faults.machine_faults():
        raise OSError(errno.EIO, "Input/output error")


def test_the_status_follows_the_run(tmp_path):
    def written():
        return json.loads((tmp_path / "run_status.json").read_text())

    with status.status_of(tmp_path, total_steps=5):
        assert written()["state"] == "running"
    assert (written()["state"], written()["exit_code"], status.finished_steps(tmp_path)) == ("finished", 0, 5)
    with pytest.raises(MachineError), status.status_of(tmp_path, total_steps=6):
        raise MachineError("the disk\nis full")
    assert (written()["state"], written()["exit_code"], written()["reason"]) == ("failed", 74, "the disk is full")
    assert status.finished_steps(tmp_path) is None
    for content in ("[1]", '{"state": "finished", "total_steps": "x"}'):
        (tmp_path / "run_status.json").write_text(content)
        assert status.finished_steps(tmp_path) is None


def test_an_accelerate_file_in_the_launchers_command_is_named(monkeypatch):
    words = [
        "/bin/python",
        "/bin/accelerate",
        "launch",
        "--config_file",
        "a.yaml",
        "run_clm.py",
        "--config_file",
        "b.yaml",
    ]
    monkeypatch.setattr(launcher, "_launcher", lambda: words)
    assert launcher.accelerate_file() == "a.yaml"
    monkeypatch.setattr(launcher, "_launcher", lambda: [*words[:3], "--config_file=c.yaml", *words[5:]])
    assert launcher.accelerate_file() == "c.yaml"


WAITING = """
import sys, time
from datetime import timedelta
from accelerate import PartialState
from clm.launch import processes

state = PartialState(cpu=True, timeout=timedelta(seconds=2))
with processes.processes():
    processes.watch_others()
    with processes.first_of_each_machine():
        if state.is_local_main_process:
            time.sleep(3)
        print("at", round(time.monotonic(), 2), flush=True)
    processes.on_main(lambda: time.sleep(3), patient=True)
    if state.is_main_process:
        time.sleep(3)
"""


def test_the_others_wait_longer_for_work_than_for_a_message():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = []
    for rank in ("0", "1"):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **place, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        both.append(subprocess.Popen([sys.executable, "-c", WAITING], env=environment, stdout=-1, stderr=-1, text=True))
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (float(out.split("at ")[1].split()[0]) for out, _ in said)
    assert second >= first - 0.01


# A process waits for one that fails, as within a kernel of NCCL's: nothing else wakes it. The first keeps the store.
FAILING = """
import os, sys, time
from pathlib import Path
from accelerate import PartialState
from clm.errors import ProcessFault, exit_code_of
from clm.launch import processes, status

processes.GRACE = 1.0

def program():
    with processes.processes():
        PartialState(cpu=True)
        processes.watch_others()
        if sys.argv[1] == os.environ["RANK"]:
            raise ProcessFault("the disk is full")
        with status.status_of(Path("out"), 5):
            time.sleep(600)

sys.exit(exit_code_of(program))
"""


@pytest.mark.parametrize(
    ("failing", "says"),
    [
        ("1", ["error: another process of this run has failed", "error: process 1 of 2: the disk is full"]),
        pytest.param("0", ["error: process 0 of 2: the disk is full", ""], marks=pytest.mark.slow),  # a machine's line
    ],
)
def test_a_process_that_waits_for_one_that_failed_ends_soon(tmp_path, monkeypatch, failing, says):
    monkeypatch.chdir(tmp_path)
    both = start_processes(FAILING, 2, failing)
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [74, 74], said
    for words, start in zip(said, says, strict=True):
        lines = [line for line in words.splitlines() if line.startswith("error")]
        assert len(lines) == bool(start) and all(line.startswith(start) for line in lines), said
    if failing == "1":
        written = json.loads(Path("out/run_status.json").read_text())
        assert (written["state"], written["exit_code"]) == ("failed", 74) and "has failed" in written["reason"]


@pytest.mark.slow
def test_the_launcher_of_another_machine_ends_too(tmp_path):
    """torch's launchers don't tell each other that a process failed; theirs are two machines here."""
    (tmp_path / "failing.py").write_text(FAILING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ["--nnodes", "2", "--nproc_per_node", "1", "--master_port", str(free.getsockname()[1])]
    command = [sys.executable, "-m", "torch.distributed.run", *place, "--master_addr", "127.0.0.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launchers = [
        subprocess.Popen(
            [*command, "--node_rank", str(rank), str(tmp_path / "failing.py"), "1"],
            env=environment, cwd=tmp_path, stdout=-1, stderr=-1, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    assert all(launcher.returncode for launcher in launchers), said
    assert "error: another process of this run has failed: look for its own message" in said[0]
    assert "error: process 1 of 2: the disk is full" in said[1] and "another process" not in said[1]
