"""A Hub that this process pushes to, and a run that is done once for all tests of a file."""

import shutil
import time
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from clm.hub import access, background
from tests.hub_protocol import WRITE_TOKEN
from tests.hub_server import HubServer
from tests.tiny import make_text, run, write_recipe

STEPS = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "push_to_hub": False, "hub_model_id": "tester/tiny"}


@pytest.fixture
def hub(monkeypatch):
    """The test Hub, as the one that clm.hub talks to with a token that may write; waits between tries are short."""
    patient = access.client
    with HubServer() as server:

        def client() -> HfApi:
            patient()
            return HfApi(endpoint=server.url, token=WRITE_TOKEN)

        monkeypatch.setattr(access, "client", client)
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        monkeypatch.setattr(background, "_FIRST_WAIT", 0.01)
        yield server


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder where a run was done that nobody has pushed."""
    folder = tmp_path_factory.mktemp("run")
    with chdir(folder):
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe(**STEPS)
        assert run() == 0
    return folder


@pytest.fixture
def place(workplace, done, monkeypatch):
    """A folder with what the run has built of its text, and its recipe, but not the run."""
    write_recipe(**STEPS, train_file=str(done / "text.txt"))
    monkeypatch.setattr("run_clm.write_report", lambda *_: None)  # which takes as long as all the rest
    for name in ("tokenizer", ".cache"):
        shutil.copytree(done / name, name)
    return workplace


@pytest.fixture
def copy(place, done):
    """The same, with the run."""
    shutil.copytree(done / "out", "out")
    return place


@pytest.fixture
def waits(monkeypatch):
    """The seconds that huggingface_hub and we would have waited; nobody does."""
    seconds = []
    quick = SimpleNamespace(sleep=seconds.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("huggingface_hub.utils._http.time", quick)
    monkeypatch.setattr(background, "time", quick)
    return seconds
