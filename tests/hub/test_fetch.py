"""Back from the Hub: a run goes on, bit for bit, on a machine that has nothing of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest

from clm.errors import MachineError, UserError
from clm.hub import access
from clm.hub.fetch import fetch
from clm.hub.push import push
from clm.training.checkpoint import manifest
from tests.chaos import differences
from tests.hub.test_push import NAME, folders, unfinish
from tests.hub_protocol import WRITE_TOKEN
from tests.hub_server import HubServer
from tests.tiny import ROOT, make_text, run, write_recipe

TRAINING = {"hub_model_id": NAME, "hub_strategy": "all_checkpoints", "output_dir": "out"}
LONG = {
    "max_steps": 40, "eval_steps": 5, "save_steps": 5, "attn_pdrop": 0.1,
    "push_to_hub": True, "hub_model_id": NAME, "hub_strategy": "checkpoint", "resume_from_checkpoint": "hub",
}  # fmt: skip


def start(hub: HubServer, folder: Path) -> subprocess.Popen:
    """The run as on a machine of its own: its text, and nothing else."""
    folder.mkdir()
    with chdir(folder):
        write_recipe(**LONG)
        Path("text.txt").write_text(make_text(), "utf-8")
        with Path("out.txt").open("w") as out, Path("err.txt").open("w") as err:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "run_clm.py"), "--config", "tiny.json"],
                env=hub.env(folder / "home") | {"OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=err,
            )


def test_push_kill_and_resume_on_an_empty_disk_end_with_the_very_same_weights(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    with chdir(undisturbed):
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe(**LONG)
        assert run("--push_to_hub", "false", "--resume_from_checkpoint", "none") == 0
    with HubServer() as hub:
        first = start(hub, tmp_path / "first")
        while not (
            ("model", NAME) in hub.repos and "checkpoints" in hub.repos["model", NAME].branches and folders(hub)
        ):
            assert first.poll() is None
            time.sleep(0.002)
        first.kill()
        assert first.wait() < 0
        assert "has no checkpoint yet" in (tmp_path / "first/out.txt").read_text()
        time.sleep(0.1)
        pushed = folders(hub)
        second = start(hub, tmp_path / "second")
        assert second.wait() == 0, (tmp_path / "second/err.txt").read_text()
        said = (tmp_path / "second/out.txt").read_text()
        assert "step 1/40" not in said
        assert any(f"fetching {name} of {NAME}" in said and f"resuming from out/{name}" in said for name in pushed)
        assert differences(undisturbed / "out", tmp_path / "second/out") == []
        model = hub.repos["model", NAME].files["model.safetensors"]
        assert model == (undisturbed / "out/model.safetensors").read_bytes()
        everything = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert tmp_path / "second/err.txt" in everything and list((tmp_path / "second/home").rglob("*"))
        assert not [path for path in everything if WRITE_TOKEN.encode() in path.read_bytes()]


@pytest.fixture
def pushed(hub, copy):
    """checkpoint-2 and checkpoint-4 are on the Hub, and `out` is gone."""
    unfinish()
    push(access.client(), Path("out"), access.Target(NAME, strategy="all_checkpoints"))
    shutil.move("out", "gone")
    Path("out").mkdir()
    return hub.repos["model", NAME]


def back() -> list[str]:
    said = []
    fetch(Path("out"), TRAINING, True, said.append)
    return said


def there() -> set[str]:
    assert not list(Path("out").glob(".*"))
    return {path.name for path in Path("out").iterdir()}


def spoil(repo, name: str) -> None:
    tree = repo.commits[repo.branches["checkpoints"]]
    tree[name] = tree[name][:-1] + b"?"


def test_the_newest_comes_with_its_samples_and_only_once(pushed):
    assert back() == [f"fetching checkpoint-4 of {NAME}"]
    assert there() == {"checkpoint-4", "samples.jsonl"}
    for path in Path("gone/checkpoint-4").iterdir():
        assert Path("out/checkpoint-4", path.name).read_bytes() == path.read_bytes()
    assert back() == []


def test_a_checkpoint_that_is_damaged_there_is_passed_over(pushed):
    spoil(pushed, "checkpoint-4/optimizer.pt")
    assert "passing over checkpoint-4 of tester/tiny: optimizer.pt isn't what was written" in back()[1]
    assert "checkpoint-2" in there()
    spoil(pushed, "checkpoint-2/checkpoint.json")
    shutil.rmtree("out")
    Path("out").mkdir()
    with pytest.raises(UserError, match="none of the 2 checkpoints on the branch checkpoints of tester/tiny"):
        back()


def test_a_damaged_download_is_done_again(hub, pushed):
    hub.fail("/cdn/.*optimizer.pt", corrupt=True)
    assert back() == [f"fetching checkpoint-4 of {NAME}"]
    assert "checkpoint-4" in there()


def test_the_best_models_checkpoint_comes_along(hub, copy):
    newest = Path("out/checkpoint-4")
    state = json.loads((newest / "trainer_state.json").read_text())
    (newest / "trainer_state.json").write_text(json.dumps(state | {"best_global_step": 2}))
    written = manifest.manifest_of(newest)
    (newest / manifest.MANIFEST).unlink()
    manifest.write(newest, {key: written[key] for key in ("step", "world_size", "recipe", "data")}, {})
    unfinish()
    push(access.client(), Path("out"), access.Target(NAME, strategy="checkpoint"))
    assert folders(hub) == {"checkpoint-2", "checkpoint-4"}
    shutil.rmtree("out")
    Path("out").mkdir()
    back()
    assert {"checkpoint-2", "checkpoint-4"} <= there()


def test_what_is_here_is_taken_where_it_is_as_new(hub, pushed):
    shutil.copytree("gone/checkpoint-4", "out/checkpoint-4")
    assert back() == []
    os.truncate("out/checkpoint-4/model.safetensors", 10)
    assert back()[1] == f"fetching checkpoint-4 of {NAME}"
    assert back() == []


def test_a_hub_that_is_away_stops_only_those_who_have_nothing(hub, pushed, waits):
    hub.stop()
    with pytest.raises(MachineError, match="no checkpoint of tester/tiny can be fetched"):
        back()
    shutil.copytree("gone/checkpoint-2", "out/checkpoint-2")
    assert back()[0].startswith("warning: the Hub can't be asked for a newer checkpoint")
    hub.start()
