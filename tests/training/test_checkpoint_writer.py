"""Checkpoints written in the background: complete or not there, and never one too few."""

import errno
import fcntl
import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clm.training.checkpoint import hashed_file, manifest, rng
from clm.training.checkpoint import writer as checkpoint_writer
from clm.training.checkpoint.snapshot import Snapshot, distinct, save, tensor_bytes, write_safetensors
from clm.training.checkpoint.writer import CheckpointWriter, publish, rotate

FACTS = {"world_size": 1}


def write(folder: Path, tensors: dict) -> dict:
    return {"tensors.pt": save(tensors, folder / "tensors.pt")}


def facts_of(path: Path) -> dict:
    return {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def writer(tmp_path):
    made = CheckpointWriter(tmp_path, limit=None, resumed_from=None)
    yield made
    made.close()


def test_what_is_saved_is_what_the_tensors_held_when_it_began(writer, tmp_path):
    weights = torch.arange(6.0)
    for step in (1, 2):
        writer.start(step, {"w": weights}, write, FACTS, set())
        weights += 10  # what the optimizer does next
    assert writer.wait() is None and names(tmp_path) == ["checkpoint-1", "checkpoint-2"]
    for step in (1, 2):
        saved = torch.load(tmp_path / f"checkpoint-{step}/tensors.pt", weights_only=True)["w"]
        assert saved.tolist() == [10.0 * (step - 1) + i for i in range(6)]
        assert manifest.fault(tmp_path / f"checkpoint-{step}") is None


def test_training_goes_on_while_a_checkpoint_is_written(writer, tmp_path):
    go_on = threading.Event()
    writer.start(1, {"w": torch.zeros(2)}, lambda *_: {} if go_on.wait(10) else None, FACTS, set())
    assert not (tmp_path / "checkpoint-1").exists()
    go_on.set()
    assert writer.wait() is None and (tmp_path / "checkpoint-1").exists()


def test_a_save_that_fails_leaves_the_older_ones_and_says_so(writer, tmp_path, capsys):
    def fail(folder: Path, tensors: dict) -> None:
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "half"))

    writer.start(1, {"w": torch.zeros(2)}, write, FACTS, set())
    writer.start(2, {"w": torch.zeros(2)}, fail, FACTS, set())
    assert "the disk is full" in writer.wait()
    assert names(tmp_path) == ["checkpoint-1"] and manifest.fault(tmp_path / "checkpoint-1") is None
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {tmp_path}/checkpoint-2 isn't saved") and said.count("\n") == 1
    writer.start(3, {"w": torch.zeros(2)}, write, FACTS, set())
    assert writer.wait() is None and names(tmp_path) == ["checkpoint-1", "checkpoint-3"]


def test_a_bug_in_a_save_is_not_taken_for_a_fault_of_the_disk(writer):
    writer.start(1, {}, lambda *_: 1 / 0, FACTS, set())
    with pytest.raises(ZeroDivisionError):
        writer.wait()


def test_no_save_is_begun_that_the_disk_has_no_room_for(writer, tmp_path, monkeypatch, capsys):
    usage = checkpoint_writer.shutil.disk_usage(tmp_path)._replace(free=7_000_000)  # 4 MiB are kept for the rest
    monkeypatch.setattr(checkpoint_writer.shutil, "disk_usage", lambda _: usage)
    writer.start(1, {"w": torch.zeros(1_000_000)}, write, FACTS, set())
    assert "it needs 8 MB" in writer.wait() and names(tmp_path) == []
    writer.start(2, {"w": torch.zeros(500_000)}, write, FACTS, set())
    assert writer.wait() is None


def checkpoints(folder: Path, *steps: int) -> list[Path]:
    made = [folder / f"checkpoint-{step}" for step in steps]
    for each in made:
        each.mkdir()
        (each / "file").write_text("")
    return made


def test_rotation_keeps_the_newest_and_what_must_stay(tmp_path):
    _, two, _, _, five = checkpoints(tmp_path, 1, 2, 3, 4, 5)
    rotate(tmp_path, 2, {five, two, None})
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-5"]
    rotate(tmp_path, 1, {five, two})
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-5"]


def test_rotation_goes_by_number_and_not_by_a_clock_that_was_set_back(tmp_path):
    for age, folder in enumerate(checkpoints(tmp_path, 9, 10, 11)):
        os.utime(folder, (1e9 - age, 1e9 - age))
    rotate(tmp_path, 2, {tmp_path / "checkpoint-11"})
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-11"]


def test_an_interrupted_rotation_is_finished_by_the_next(tmp_path, monkeypatch):
    checkpoints(tmp_path, 1, 2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer.shutil, "rmtree", lambda *_, **__: None)  # as if killed while it deletes
        rotate(tmp_path, 2, {tmp_path / "checkpoint-3"})
    assert names(tmp_path) == [".checkpoint-1.gone", "checkpoint-2", "checkpoint-3"]
    rotate(tmp_path, 2, {tmp_path / "checkpoint-3"})
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]


def test_a_checkpoint_takes_the_place_of_one_by_its_name(tmp_path):
    checkpoints(tmp_path, 1)
    staging = tmp_path / ".checkpoint-1.tmp"
    staging.mkdir()
    (staging / "new").write_text("")
    publish(staging, tmp_path / "checkpoint-1")
    assert names(tmp_path) == ["checkpoint-1"] and names(tmp_path / "checkpoint-1") == ["new"]


def test_a_run_on_the_cpu_leaves_the_machines_gpu_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("a context on the GPU was made"))
    state = rng.get()
    assert state["cuda"] is None
    rng.put(state | {"cuda": torch.get_rng_state()})  # of a checkpoint that a GPU wrote
    assert torch.equal(Snapshot().take(torch.ones(2)), torch.ones(2))


def test_a_snapshot_copies_tensors_and_keeps_all_else(tmp_path):
    tree = {"a": torch.ones(2), "b": [torch.zeros(3), 5], "c": "text"}
    taken = Snapshot().take(tree)
    tree["a"] += 1
    assert taken["a"].tolist() == [1, 1] and taken["b"][1] == 5 and taken["c"] == "text"
    assert tensor_bytes(tree) == 4 * (2 + 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_our_safetensors_file_is_the_packages_own(tmp_path, dtype):
    model = torch.nn.ModuleDict({"wte": torch.nn.Embedding(5, 3, dtype=dtype), "head": torch.nn.Linear(3, 5)})
    model["head"].weight = model["wte"].weight
    tensors = distinct(model)
    assert list(tensors) == ["wte.weight", "head.bias"]
    assert write_safetensors(tmp_path / "ours", tensors) == facts_of(tmp_path / "ours")
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    ours, theirs = load_file(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("size", [0, 1, 4096, 2 * 2**20, 5 * 2**20 + 7])
def test_a_file_is_hashed_as_it_is_written(tmp_path, monkeypatch, size, direct):
    if not direct:
        monkeypatch.setattr(hashed_file, "_DIRECT", 0)
    content = random.Random(size).randbytes(size)
    with hashed_file.HashedFile(tmp_path / "file") as file:
        for start in range(0, size, 1_000_003):
            file.write(content[start : start + 1_000_003])
    assert (tmp_path / "file").read_bytes() == content and file.facts == facts_of(tmp_path / "file")


def test_a_disk_that_takes_whole_blocks_only_is_written_to_the_plain_way(tmp_path, monkeypatch):
    original, content = os.write, random.Random(1).randbytes(3 * 2**20)

    def refuses(handle: int, data: memoryview) -> int:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return original(handle, data[:100_000])  # a disk may take less than it is given

    monkeypatch.setattr(hashed_file.os, "write", refuses)
    with hashed_file.HashedFile(tmp_path / "file") as file:
        file.write(content)
    assert (tmp_path / "file").read_bytes() == content and file.facts == facts_of(tmp_path / "file")
