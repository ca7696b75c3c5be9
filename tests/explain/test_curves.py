"""The files of reference runs: a run a line, in the order of their table."""

import pytest

from calibration import fit, repetition_regime, repetition_runs, runs
from calibration.curves import keep, write_runs
from clm.files import read_json

FILES = (runs.CURVES, fit.HELD_OUT, repetition_runs.CURVES, repetition_regime.CURVES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_read_is_written_byte_for_byte(file, tmp_path):
    write_runs(tmp_path / "runs.json", read_json(file))
    assert (tmp_path / "runs.json").read_bytes() == file.read_bytes()


def test_a_run_takes_its_place_in_the_order_and_that_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "some.json"
    for name, loss in (("c", 1), ("a", 2), ("b", 3), ("c", 4)):
        keep(file, {"name": name, "loss": loss}, "abc")
    assert file.read_text() == '[\n{"name":"a","loss":2},\n{"name":"b","loss":3},\n{"name":"c","loss":4}\n]\n'
