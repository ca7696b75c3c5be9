"""explanation.json is made once, at a run's end, and read by the page and the card as long as it is of this log."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from clm.__main__ import main
from clm.config.recipe import load
from clm.explain import explanation
from clm.explain.explanation import EXPLANATION_FILE, explanation_of, verdict_kept
from clm.explain.setup import of_recipe
from clm.report import card
from clm.runs.overview import VERDICT_FILE
from clm.runs.record import read_run
from tests.tiny import make_text, run, write_recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run, and how often it was explained."""
    folder, times = tmp_path_factory.mktemp("run"), []
    original = explanation.explain_run
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setattr(explanation, "explain_run", lambda run: times.append(1) or original(run))
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe()
        assert run() == 0
    return folder, len(times)


@pytest.fixture
def folder(done, tmp_path):
    """A copy of the run's folder whose explanation says "Kept."."""
    copy = Path(shutil.copytree(done[0] / "out", tmp_path / "out"))
    kept = json.loads((copy / EXPLANATION_FILE).read_text())
    kept["verdict"]["sentence"] = "Kept."
    (copy / EXPLANATION_FILE).write_text(json.dumps(kept))
    return copy


def sentence(folder: Path) -> str:
    return explanation_of(read_run(folder))["verdict"]["sentence"]


def test_a_run_explains_itself_once(done):
    folder, times = done
    kept = json.loads((folder / "out" / EXPLANATION_FILE).read_text())
    assert times == 1 and kept["step"] == 6 and len(kept["sections"]) == 6
    assert kept["verdict"]["sentence"] in (folder / "out" / "README.md").read_text()


def test_the_page_and_the_card_say_what_is_kept(folder):
    assert "\nKept.\n" in card.finished(folder, "tiny")
    assert main(["report", str(folder)]) == 0
    assert ">Kept.<" in (folder / "report.html").read_text()


def test_an_explanation_of_another_log_is_made_anew_and_stays_as_it_is(folder):
    assert sentence(folder) == "Kept."
    path = folder / "trainer_state.json"
    state = json.loads(path.read_text())
    state["log_history"].append({"step": 6, "loss": 5.0})
    path.write_text(json.dumps(state))
    before = (folder / EXPLANATION_FILE).read_bytes()
    assert sentence(folder) != "Kept." and (folder / EXPLANATION_FILE).read_bytes() == before


@pytest.mark.parametrize("content", [None, "{", "[]", '{"verdict": {"sentence": "Kept."}}'])
def test_an_explanation_that_is_missing_or_damaged_is_made_anew(folder, content):
    path = folder / EXPLANATION_FILE
    path.unlink() if content is None else path.write_text(content)
    assert "be said" in sentence(folder)


def test_the_command_makes_it_anew_and_keeps_it(folder, capsys):
    assert main(["explain", str(folder)]) == 0
    assert sentence(folder) in " ".join(capsys.readouterr().out.split()) and sentence(folder) != "Kept."


def test_where_it_cannot_be_kept_it_is_said_anyway(folder, capsys):
    (folder / EXPLANATION_FILE).unlink()
    (folder / EXPLANATION_FILE).mkdir()
    assert main(["explain", str(folder)]) == 0
    said = capsys.readouterr()
    assert "IS IT NORMAL?" in said.out and said.err.startswith(f"warning: {folder / EXPLANATION_FILE} can't be written")


def test_a_run_with_too_few_losses_has_none(folder):
    state = {"global_step": 1, "log_history": [{"step": 1, "loss": 5.0}]}
    for path in folder.glob("**/trainer_state.json"):
        path.write_text(json.dumps(state))
    (folder / EXPLANATION_FILE).unlink()
    assert explanation_of(read_run(folder)) is None
    assert explanation.write_explanation(folder) is None and not (folder / EXPLANATION_FILE).exists()


def test_a_backup_of_a_checkpoint_ends_neither_a_run_nor_its_explanation(workplace, capsys):
    backup = Path("out/checkpoint-4.bak/trainer_state.json")
    backup.parent.mkdir(parents=True)
    backup.write_text(json.dumps({"global_step": 4, "log_history": [{"step": 2, "loss": 9.0}]}))  # of another run
    write_recipe()
    assert run() == 0 and backup.is_file()
    assert main(["explain", "out"]) == 0
    assert "non-determinism" not in capsys.readouterr().out


def test_an_evaluation_before_the_first_step_is_one_that_nothing_can_be_said_of_yet(workplace, capsys):
    setup = of_recipe(load(Path("tiny.json")), 5000)
    assert verdict_kept(workplace, setup, [{"step": 0, "eval_loss": 5.7}]) == "verdict: can't say"
    assert json.loads((workplace / VERDICT_FILE).read_text())["forecast"] is None
    assert run("--eval_on_start", "true") == 0
    assert "verdict: can't say" in capsys.readouterr().out
    assert [stands["step"] for stands in explanation_of(read_run(Path("out")))["history"]] == [0, 3, 6]
