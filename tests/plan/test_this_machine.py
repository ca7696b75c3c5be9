"""What a plan found out about this machine is kept for an hour, and never taken for another machine's."""

import json
import time

import pytest

from clm.config.recipe import load
from clm.data.text_size import tokens_of_text
from clm.plan import this_machine
from clm.plan.devices import Device
from tests.tiny import ROOT


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Asks for this machine's rate; each time that it is measured it is one FLOP/s more."""
    measured = []

    def found_out(recipe, processes):
        measured.append(recipe)
        return Device("this CPU", float(len(measured)), 1e9, 0.5, measured=time.time()), False

    def asked(processes=1, **training):
        recipe = load(ROOT / "recipes" / "quickstart.json")
        recipe.training.update(training)
        return this_machine.this_device(recipe, processes)[0].flops

    monkeypatch.setattr(this_machine, "_found_out", found_out)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "boot").write_text("one\n")
    monkeypatch.setattr(this_machine, "_BOOT", tmp_path / "boot")
    return asked


def test_it_is_measured_once(ask):
    assert [ask(), ask(), ask()] == [1, 1, 1]


def test_what_it_depends_on_is_measured_anew(ask, tmp_path, monkeypatch):
    assert [ask(), ask(bf16=False), ask(processes=2), ask()] == [1, 2, 3, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert ask() == 4
    (tmp_path / "boot").write_text("another machine\n")
    assert ask() == 5


def test_after_an_hour_it_is_measured_anew(ask, tmp_path):
    assert ask() == 1
    (file,) = (tmp_path / "clm").iterdir()
    kept = json.loads(file.read_text())
    kept["device"]["measured"] -= 3590
    file.write_text(json.dumps(kept))
    assert ask() == 1
    kept["device"]["measured"] -= 20
    file.write_text(json.dumps(kept))
    assert ask() == 2


@pytest.mark.parametrize("content", ["", "[]", '{"device": null}', '{"device": {"measured": 1e99}, "half": true}'])
def test_a_file_that_is_not_its_own_is_measured_over(ask, tmp_path, content):
    assert ask() == 1
    (file,) = (tmp_path / "clm").iterdir()
    file.write_text(content)
    assert [ask(), ask()] == [2, 2]


def test_nothing_is_kept_where_nothing_can_be(ask, tmp_path):
    (tmp_path / "clm").write_text("no folder")
    assert [ask(), ask()] == [1, 2]
    (tmp_path / "clm").unlink()
    (tmp_path / "boot").unlink()
    assert [ask(), ask()] == [3, 4]


def test_the_documentation_of_python_is_not_parsed_to_be_counted(tmp_path):
    recipe = load(ROOT / "recipes" / "quickstart.json")
    recipe.data.__dict__["cache_dir"] = str(tmp_path)
    # 95 % of 2,510,553 bytes are 2,385,025; at 2.99 bytes a token that is 797,667.
    tokens, why = tokens_of_text(recipe, 2048)
    assert tokens == 797_667 and "2,385,025 bytes" in why
    assert tokens_of_text(recipe, 32_000)[0] == int(2_510_553 * 0.95 / 4.2)
