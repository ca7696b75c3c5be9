"""Background upload: no fault of the Hub ends a run, and each gets a clear word."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, ModelCard

from clm import errors
from clm.__main__ import main
from clm.errors import MachineError, Stopped
from clm.hub import access, background
from tests.hub.test_push import files, folders
from tests.hub_protocol import WRITE_TOKEN
from tests.tiny import run

PUSHING = ("--push_to_hub", "--hub_strategy", "checkpoint")


def has_no_token(*texts: str) -> bool:
    """Neither what was said nor any file here."""
    everywhere = [path for path in Path().rglob("*") if path.is_file()]
    assert len(everywhere) > 20
    return not any(
        WRITE_TOKEN.encode() in each for each in [*map(str.encode, texts), *map(Path.read_bytes, everywhere)]
    )


def is_there(hub, done: Path) -> bool:
    """The finished run, whole, with its last checkpoint."""
    assert files(hub)["model.safetensors"] == (done / "out/model.safetensors").read_bytes()
    assert ModelCard(files(hub)["README.md"].decode()).data.eval_results
    assert "checkpoint-4" in folders(hub)
    return True


FAULTS = {
    "500 for a while, and slow": [
        {"path": "/commit/", "status": 500, "times": 3},
        {"path": "/lfs/", "status": 503, "times": 2},
        {"path": "/lfs/", "delay": 0.3, "times": 3},
    ],
    "429": [
        {"path": "/commit/main", "status": 429, "headers": {"Retry-After": "7"}},
        {"path": "/preupload/", "status": 429, "headers": {"Retry-After": "8"}, "times": 2},
    ],
    "cut in an upload and in an answer": [
        {"path": "/lfs/", "method": "PUT", "cut": 1000, "times": 2},
        {"path": "/commit/", "method": "POST", "cut": 0, "times": 1},
    ],
    "a wrong hash, and away at the start": [
        {"path": "/lfs/", "method": "PUT", "corrupt": True, "times": 2},
        {"path": "/repos/create", "status": 500, "times": 1},
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_waited_for(hub, place, done, waits, capfd, fault):
    for one in FAULTS[fault]:
        hub.fail(**one)
    assert run(*PUSHING) == 0
    said = capfd.readouterr()
    assert is_there(hub, done) and "pushed to http" in said.out.splitlines()[-1]
    assert json.loads(Path("out/run_status.json").read_text())["state"] == "finished"
    assert not hub.faults or all(one.times == 0 for one in hub.faults)
    if fault == "429":
        assert 9.0 in waits  # by huggingface_hub: a second more than was asked for
        assert "tried again in 7 s" in said.err or 7.0 in waits
    if "start" in fault:
        assert "warning: the Hub can't be asked about tester/tiny now" in said.err
    assert has_no_token(*said)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"status": 500}, "500"),
        ({"status": 429, "headers": {"Retry-After": "4000"}}, "429"),
        ({"status": 401}, "401"),
        ({"status": 403}, "403"),
    ],
    ids=str,
)
def test_what_stays_ends_in_a_finished_run_and_the_command_that_pushes_it(hub, place, done, waits, capfd, fault, word):
    hub.fail("/commit/", times=None, **fault)
    assert run(*PUSHING) == 0
    said = capfd.readouterr()
    assert max(waits, default=0) <= 300  # for an hour nobody waits
    assert json.loads(Path("out/run_status.json").read_text())["state"] == "finished"
    assert Path("out/model.safetensors").read_bytes() == (done / "out/model.safetensors").read_bytes()
    last = said.err.splitlines()[-1]
    assert last.startswith("warning: pushing to tester/tiny failed") and word in last
    assert last.endswith("`python -m clm push out` finishes the push") and "Traceback" not in said.err
    assert main(["push", "out"]) == 74
    assert capfd.readouterr().err.startswith("error: pushing to tester/tiny failed")
    hub.faults.clear()
    sent = [request for request in hub.requests if request.method == "PUT"]
    assert main(["push", "out"]) == 0
    assert is_there(hub, done)
    again = [request.path for request in hub.requests if request.method == "PUT"][len(sent) :]
    assert not set(again) & {request.path for request in sent}  # what was uploaded before stays uploaded
    assert has_no_token(*said)


def test_training_does_not_wait_for_a_slow_hub(hub, place, capfd):
    """All four steps and the model are there while the first upload still hangs."""
    released = threading.Event()
    answer = hub.take_fault

    def hang(method, path):
        if method == "PUT":
            released.wait(30)
        return answer(method, path)

    hub.take_fault = hang
    seen = []

    def watch():
        while not Path("out/model.safetensors").exists():
            time.sleep(0.01)
        seen.append([request.status for request in hub.requests if "/commit/" in request.path])
        released.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert run(*PUSHING) == 0
    watcher.join()
    assert seen == [[]]
    assert "pushed to http" in capfd.readouterr().out.splitlines()[-1]


def test_a_stopped_run_pushes_its_last_checkpoint(hub, place, capfd):
    write = background.BackgroundUpload.saved
    stopped = []

    def saved(self):
        if not stopped:
            stopped.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
        write(self)

    background.BackgroundUpload.saved = saved
    try:
        assert run(*PUSHING, "--max_steps", "400") == 75
    finally:
        background.BackgroundUpload.saved = write
    newest = max(Path("out").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    assert newest.name in folders(hub)
    assert "**Not finished.**" in files(hub)["README.md"].decode()
    assert json.loads(Path("out/run_status.json").read_text())["state"] == "stopped"


@pytest.mark.parametrize("error", [MachineError("the disk is full"), Stopped("by SIGTERM")], ids=str)
def test_what_ended_a_run_is_said_once_and_before_its_last_push(tmp_path, monkeypatch, capsys, error):
    pushes = []

    def upload(*_):
        return SimpleNamespace(saved=None, finish=lambda tries: pushes.append((tries, capsys.readouterr().err)))

    monkeypatch.setattr(background, "BackgroundUpload", upload)
    monkeypatch.setattr(access, "client", lambda: None)
    monkeypatch.setattr(access.Target, "of", lambda _: None)

    def program():
        with background.uploads(tmp_path, {"push_to_hub": True}, print):
            raise error

    assert errors.exit_code_of(program) == error.exit_code
    assert pushes == [(1, f"{'error' if error.exit_code == 74 else 'stopped'}: {error}\n")]
    assert capsys.readouterr().err == ""


def test_waits_grow_and_are_at_least_what_the_hub_asks_for(waits, monkeypatch):
    monkeypatch.setattr(background, "_FIRST_WAIT", 2.0)

    def fail():
        raise OSError("no network")

    with pytest.raises(MachineError, match="pushing to me/it failed: no network"):
        background.with_retries(fail, "me/it")
    assert waits == [2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(("token", "word"), [(None, "there is no token"), ("hf_wrong", "refuses")])
def test_without_a_right_to_write_no_run_starts(hub, place, monkeypatch, capfd, token, word):
    monkeypatch.setenv("HF_TOKEN", token or "")
    monkeypatch.setenv("HF_TOKEN_PATH", str(place / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(place / "none"))
    monkeypatch.setattr(access, "client", lambda: HfApi(endpoint=hub.url))
    shutil.rmtree(".cache")
    assert run(*PUSHING) == 2
    said = capfd.readouterr()
    assert said.err.count("\n") == 1 and word in said.err and "hf_wrong" not in said.err + said.out
    assert not Path("out").exists() and not Path(".cache").exists()


def test_without_a_network_the_run_trains_and_says_what_to_do(hub, place, waits, capfd):
    hub.stop()
    assert run(*PUSHING) == 0
    said = capfd.readouterr().err.splitlines()
    assert said[0].startswith("warning: the Hub can't be asked about tester/tiny now")
    assert said[-1].endswith("`python -m clm push out` finishes the push")
    hub.start()
    assert main(["push", "out"]) == 0
