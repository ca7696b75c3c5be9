"""What asks a run to stop: signals, a time limit, the launcher's death."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clm.__main__ import main
from clm.errors import Stopped
from clm.launch import signals
from tests.tiny import ROOT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_stops_at_once_outside_training_and_waits_within_it(number):
    with (
        pytest.raises(Stopped, match=f"by {signal.Signals(number).name}; run the same command again"),
        signals.caught(),
    ):
        os.kill(os.getpid(), number)
        raise AssertionError("it went on")
    reached = []
    with pytest.raises(Stopped), signals.caught(), signals.deferred():
        os.kill(os.getpid(), number)
        reached.append(signals.reason())
    assert reached == [signal.Signals(number).name]


@pytest.mark.parametrize(
    ("parent", "process_1", "started_by", "orphaned"),
    [
        (1, "/sbin/init\0", "", True),
        (1, "python\0/bin/accelerate\0launch\0", "", False),  # in a container the launcher may be process 1
        (1, "python\0/bin/torchrun\0--nproc_per_node\0", "", False),
        (1, "python\0-m\0clm\0sweep\0", "1", False),
        (1, "/sbin/init\0", "40", True),
        (40, "/sbin/init\0", "40", False),
        (40, "/sbin/init\0", "", False),
    ],
)
def test_a_process_knows_whether_its_launcher_is_gone(monkeypatch, parent, process_1, started_by, orphaned):
    monkeypatch.setenv(signals.FOLLOW_PARENT, started_by)
    monkeypatch.setattr(signals.Path, "read_text", lambda *_, **__: process_1)
    assert signals._orphaned(parent) is orphaned


def test_the_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals.caught():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_time_limit_asks_like_a_signal():
    with signals.caught(), pytest.raises(Stopped, match="by stop_after_minutes"):
        signals.stop_after(minutes=0.01 / 60)
        time.sleep(10)


def test_a_clock_that_is_set_back_does_not_move_the_limit(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with signals.caught(), pytest.raises(Stopped):
        signals.stop_after(minutes=0.01 / 60)
        time.sleep(10)


def test_a_signal_that_the_launcher_passes_on_too_counts_once(monkeypatch):
    left, now = [], [100.0]
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with pytest.raises(Stopped), signals.caught(), signals.deferred():
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "of a launcher of several processes")
        for now[0], expected in ((100.0, []), (100.9, []), (101.1, [128 + signal.SIGTERM])):
            signal.raise_signal(signal.SIGTERM)
            assert left == expected


WAITS = """
import os, sys, time
sys.path.insert(0, {root!r})
from clm.launch import signals
with signals.caught(), signals.deferred():
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
        if os.path.exists("leave") or {leave_when_asked} and signals.reason():
            os._exit(75)
"""


def test_a_second_signal_ends_the_process_at_once():
    code = WAITS.format(root=str(ROOT), leave_when_asked=False)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        assert b"stopped at once" in process.stderr.read()


@pytest.mark.parametrize(
    "program", [[str(ROOT / "run_clm.py")], ["-m", "clm", "generate", "--model", "a", "--prompt", "a"]]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_the_program_is_being_imported_is_one_line(tmp_path, number, program):
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, *program]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.wait(10) == 75
        name = signal.Signals(number).name
        assert process.stderr.read() == f"stopped: by {name}; run the same command again to resume\n"


def test_a_signal_in_a_command_unwinds_it_and_is_one_line(monkeypatch, capsys):
    left = []

    def interrupted(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            left.append("tidily")

    monkeypatch.setattr("clm.commands.report.read_run", interrupted)
    assert main(["report", "runs/any"]) == 75 and left == ["tidily"]
    assert capsys.readouterr().err == "stopped: by SIGINT; run the same command again to resume\n"


LAUNCHES = """
import os, subprocess, sys, time
os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # which a process of accelerate's has
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=open("stderr", "w"))
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def ends_with_its_launcher(folder: Path, command: list[str], how: signal.Signals, **environment: str) -> bool:
    """Whether a launched command, which says a line when it can be left alone, ends when its launcher is killed."""
    launcher = [sys.executable, "-c", LAUNCHES, *command]
    with subprocess.Popen(launcher, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        process.send_signal(how)
    for _ in range(1000):
        try:
            if Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_its_launcher_stops_a_process(tmp_path, how):
    code = WAITS.format(root=str(ROOT), leave_when_asked=True)
    assert ends_with_its_launcher(tmp_path, [sys.executable, "-c", code], how)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_the_end_of_its_launcher_stops_a_process_that_is_importing(tmp_path):
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    program = [sys.executable, str(ROOT / "run_clm.py")]
    assert ends_with_its_launcher(tmp_path, program, signal.SIGTERM, PYTHONPATH=path)
    said = (tmp_path / "stderr").read_text()
    assert said == "stopped: by the end of its launcher; run the same command again to resume\n"
