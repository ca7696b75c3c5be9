"""Damage of every kind to a folder with a manifest is seen and named."""

import json
from pathlib import Path

import pytest

from clm.training.checkpoint import manifest


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "checkpoint-3"
    made.mkdir()
    (made / "a.bin").write_bytes(b"\0" * 5000)
    (made / "b.json").write_text("{}")
    manifest.write(made, {"step": 3, "world_size": 1}, {})
    return made


def test_an_intact_one_has_no_fault_and_says_what_is_in_it(folder):
    assert manifest.fault(folder) is None
    written = manifest.manifest_of(folder)
    assert (written["step"], written["world_size"], set(written["files"])) == (3, 1, {"a.bin", "b.json"})
    # sha256 of two bytes, as `printf '{}' | sha256sum` gives it
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert written["files"]["b.json"] == {"size": 2, "sha256": digest}


def test_a_truncated_file(folder):
    (folder / "a.bin").write_bytes(b"\0" * 4999)
    assert manifest.fault(folder) == "a.bin has 4,999 of 5,000 bytes"


def test_a_flipped_byte(folder):
    (folder / "a.bin").write_bytes(b"\0" * 2500 + b"\1" + b"\0" * 2499)
    assert manifest.fault(folder) == "a.bin isn't what was written (its SHA-256 differs)"


def test_a_missing_file(folder):
    (folder / "a.bin").unlink()
    (folder / "b.json").unlink()
    assert manifest.fault(folder) == "it lacks a.bin, b.json"


def test_an_empty_folder(tmp_path):
    assert manifest.fault(tmp_path) == "it is empty"


@pytest.mark.parametrize("text", [None, "", "[]", '{"step": 3'])
def test_a_manifest_that_is_gone_or_cut(folder, text):
    path = folder / manifest.MANIFEST
    path.unlink() if text is None else path.write_text(text)
    assert manifest.fault(folder) == "it has no checkpoint.json that can be read"


def test_a_manifest_that_was_changed(folder):
    written = json.loads((folder / manifest.MANIFEST).read_text())
    (folder / manifest.MANIFEST).write_text(json.dumps(written | {"world_size": 2}))
    assert manifest.fault(folder) == "its checkpoint.json is damaged"


def test_a_folder_by_another_steps_name(folder):
    assert manifest.fault(folder.rename(folder.with_name("checkpoint-4"))) == "it holds step 3"
