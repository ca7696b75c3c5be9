"""`python -m clm explain`: the case that the project grew from, a run's folder, and input that can't be explained."""

import json
import math
from pathlib import Path

import pytest

from clm.__main__ import main
from clm.explain.sections import findings_lines
from tests.explain.planted import BASE, sentences, write_texts
from tests.tiny import ROOT, run, write_recipe

CASE = ["explain", "--config", str(ROOT / "recipes" / "wt103-seed.json")]


def test_the_case_prints_its_figures_and_that_it_is_normal(workplace, capsys):
    assert main([*CASE, "--step", "3000", "--loss", "3.9", "--dataset_tokens", "116944985", "--output", "e.json"]) == 0
    page = capsys.readouterr().out
    for figure in (
        "10.37",
        "49.4",
        "98.3 M",
        "0.84",
        "0.0821 %",
        "3,654,498",
        "3.0, perplexity 20.1",
        "2.8, perplexity 16.4",
    ):
        assert figure in page
    # (10.37 - 3.9) / (10.37 - 3) = 0.88
    assert "3.0, perplexity 20.1; 88% of the way from 10.37 is done." in " ".join(page.split())
    explained = json.loads(Path("e.json").read_text())
    assert explained["verdict"]["label"] == "within" and "80 % band, ±" in explained["verdict"]["confidence"]
    assert explained["dataset_tokens_from"] == "given"
    assert explained["forecast"] is None and "not measured" in page
    assert [section["title"] for section in explained["sections"]][2:] == [
        "Is it normal?",
        "Where it will end",
        "What would help",
        "What is wrong",
    ]
    low, high = next(row[1:] for row in explained["band"] if row[0] >= 3000)
    assert low < 3.9 < high


def test_without_a_token_count_the_table_of_known_datasets_answers_and_is_named(workplace, capsys):
    assert main([*CASE, "--step", "3000", "--loss", "3.9"]) == 0
    assert "116,944,985 tokens (known of a 32,000-id byte-level BPE" in " ".join(capsys.readouterr().out.split())


def test_a_loss_far_off_is_called_so(workplace, capsys):
    for loss, label in (("2.2", "below"), ("3.9", "within"), ("6.5", "above")):
        assert main([*CASE, "--step", "3000", "--loss", loss, "--output", "e.json"]) == 0
        assert json.loads(Path("e.json").read_text())["verdict"]["label"] == label


def test_where_no_reference_is_near_it_says_so(workplace, capsys):
    assert main([*CASE, "--n_layer", "96", "--n_embd", "12288", "--n_head", "96", "--step", "10", "--loss", "9"]) == 0
    assert "can't be said: no reference run" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([*CASE, "--step", "3654500", "--loss", "3.9"], "has steps 1 to 3,654,499"),
        ([*CASE, "--step", "3000", "--loss", "-1"], "never negative"),
        ([*CASE, "--step", "3000", "--loss", "nan"], "the run has broken down"),
        ([*CASE, "--step", "3000"], "give a run's folder, a log, or --config"),
        ([*CASE, "--step", "3000", "--loss", "3.9", "--until", "9"], "a single loss has no curve"),
        (["explain", "nowhere"], "no such file or folder"),
        (["explain", "."], "not a run's folder"),
        (["explain", "nowhere", "--step", "3"], "leave --step and --loss out"),
    ],
)
def test_input_that_cannot_be_explained_gets_one_line(workplace, capsys, words, complaint):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and complaint in said.err and not said.out


def test_a_run_is_explained_in_its_terminal_and_from_its_folder(workplace, capsys):
    write_texts(sentences(900, seed=2), sentences(40, seed=3))
    write_recipe(**(BASE | {"max_steps": 200, "eval_steps": 20, "gradient_accumulation_steps": 2}))
    assert run() == 0
    said = capsys.readouterr().out.splitlines()
    verdicts = [line for line in said if line.startswith("verdict: ")]
    assert len(verdicts) == 11 and said[-1] == verdicts[-1]  # one an evaluation, and at the end
    assert main(["explain", "out", "--output", "e.json"]) == 0
    page, explained = capsys.readouterr().out, json.loads(Path("e.json").read_text())
    statistics = json.loads(Path("out/data.json").read_text())
    counted = math.log(300)
    assert 0 < statistics["unigram_entropy"] < counted
    assert f"scores {statistics['unigram_entropy']:.2f} (measured)" in page and "The run is finished." in page
    assert explained["dataset_tokens"] == statistics["train"]["tokens"]
    assert explained["numbers"]["gradient_noise_scale"] > 0


def test_a_run_of_three_losses_is_no_curve(workplace, capsys):
    write_recipe(logging_steps=3)
    assert run() == 0
    history = Path("out/trainer_state.json")
    state = json.loads(history.read_text())
    state["log_history"] = state["log_history"][:3]
    history.write_text(json.dumps(state))
    for folder in Path("out").glob("checkpoint-*"):
        (folder / "trainer_state.json").write_text(json.dumps(state))
    capsys.readouterr()
    assert main(["explain", "out"]) == 2
    assert "no curve yet" in capsys.readouterr().err


def test_an_unfinished_run_is_forecast(workplace, capsys):
    write_texts(sentences(900, seed=2), sentences(40, seed=3))
    changes = {"max_steps": 300, "eval_steps": 15, "save_strategy": "steps", "save_steps": 150, "save_total_limit": 5}
    write_recipe(**(BASE | changes))
    assert run() == 0
    for name in ("trainer_state.json", "checkpoint-300/trainer_state.json"):
        Path("out", name).unlink()
    assert main(["explain", "out", "--output", "e.json"]) == 0
    made = json.loads(Path("e.json").read_text())["forecast"]
    assert made["level"] == 0.8 and made["final"]["low"] < made["final"]["loss"] < made["final"]["high"]
    assert made["curve"][0][0] == 150 and made["curve"][-1][0] == 300
    assert made["final"]["loss"] < made["curve"][0][1]


def test_a_finding_begins_with_a_capital():
    assert findings_lines([{"name": "stairs", "text": "it falls"}], 5) == ["Stairs: it falls"]
    assert findings_lines([], 1000) == ["Nothing that shows by step 1,000."]
