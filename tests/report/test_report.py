"""The page of a run says what the run's folder says, and nothing in the folder can act on the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clm.__main__ import main
from clm.data.store.builder import documents_by_length
from clm.report.report import comparison_page, run_page, write_report
from clm.runs.record import read_run
from tests.runs.run_folder import explanation, make_run, write

ATTACK = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


class Elements(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_of_a_finished_run(tmp_path):
    text = Elements(run_page(read_run(make_run(tmp_path / "made")))).text
    for said in (
        "Finished: 10 of 10 steps",
        "Validation loss 4.2500 nats per token, best: step 10",
        "word perplexity 400.0 per word, 50 words: white-space",
        "uniform baseline 5.7038 ln(300)",  # ln 300 = 5.7038
        "unigram baseline 5.2500",
        "tokens 81 81",
        "16 to 31 3",
        "learning_rate 0.01",
        "energy not known",
        "torch 2.13.0",
    ):
        assert said in text, said
    assert f"--config {tmp_path}/made/recipe.json \\ --output_dir {tmp_path}/made-again" in text
    assert "expectation" not in text and "Forecast" not in text and "What would help" not in text


def test_energy_where_it_is_known(tmp_path):
    folder = make_run(tmp_path / "made")
    write(folder / "energy.json", {"kwh": 1.5, "processors": 2, "gpus": 0})
    assert "energy 1.5 kWh, by the counters of the machine's 2 processors" in Elements(run_page(read_run(folder))).text


def test_an_explanation_comes_first(tmp_path):
    text = Elements(run_page(read_run(make_run(tmp_path / "made")), explanation("So it is."))).text
    assert text.index("Within expectation So it is.") < text.index("Forecast 3.500") < text.index("Validation loss")
    assert "3.250 to 3.750 with 80 % confidence" in text and "about 0.10 nats lower · cost: So it is." in text


def test_findings_advice_and_the_verdict_are_said_once(tmp_path):
    part = explanation() | {
        "verdict": {"label": "within", "sentence": "a verdict", "confidence": "sure"},
        "advice": [{"title": "t", "gain_nats": 0.1, "cost": "c", "text": "some advice"}],
        "findings": [{"name": "n", "text": "a finding"}],
        "sections": [
            {"key": "seen", "title": "How much it has seen", "lines": ["a line"]},
            {"key": "normal", "title": "Is it normal?", "lines": ["a verdict"]},
            {"key": "advice", "title": "What would help", "lines": ["some advice"]},
            {"key": "findings", "title": "What is wrong", "lines": ["a finding"]},
        ],
    }
    run = read_run(make_run(tmp_path / "made"))
    text = Elements(run_page(run, part)).text
    for said in ("a verdict", "some advice", "a finding", "a line", "What would help", "What is wrong"):
        assert text.count(said) == 1, said
    text = Elements(run_page(run, part | {"advice": [], "findings": []})).text  # then the sections say that
    assert text.count("some advice") == 1 and text.count("a finding") == 1 and "Is it normal?" not in text


@pytest.mark.parametrize("key", list(explanation()))
def test_every_key_of_an_explanation_is_optional(tmp_path, key):
    part = explanation()
    del part[key]
    assert "Finished: 10 of 10 steps" in run_page(read_run(make_run(tmp_path / "made")), part)
    assert "Finished: 10 of 10 steps" in run_page(read_run(tmp_path / "made"), {key: None})


def test_runs_without_a_curve_and_with_one_point(tmp_path):
    folder = make_run(tmp_path / "made", steps=1, total=10)
    assert "Can&#39;t say how this run goes: its curve has one point." in run_page(read_run(folder))
    (folder / "checkpoint-1/trainer_state.json").unlink()
    page = run_page(read_run(folder))
    assert "Can&#39;t say how this run goes: no training loss was logged yet." in page
    assert 'id="charts-data">[]<' in page
    assert [path.name for path in write_report(folder)] == ["report.html"]  # and no picture


def test_a_folder_with_only_a_recipe(tmp_path):
    write(tmp_path / "made" / "recipe.json", {"n_layer": 2}) if (tmp_path / "made").mkdir() is None else None
    text = Elements(run_page(read_run(tmp_path / "made"))).text
    assert "a model whose shape isn't known" in text and "Not known to be finished: 0 steps" in text


def test_nothing_in_a_runs_folder_becomes_part_of_the_page(tmp_path):
    folder = make_run(tmp_path / ATTACK.replace("/", "∕"), dataset_name=ATTACK, **{ATTACK: ATTACK})
    write(folder / "environment.json", {"device": ATTACK, "versions": {ATTACK: ATTACK}})
    sample = {"step": 5, "prompt": ATTACK, "mode": ATTACK, "text": ATTACK + "\ud800"}
    (folder / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    write_report(folder, explanation(ATTACK))
    clean = make_run(tmp_path / "clean")
    write_report(clean)
    page = Elements((folder / "report.html").read_text("utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2 and "img" not in tags
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("document.title='taken'") > 20  # shown, as text
    both = comparison_page([read_run(folder), read_run(clean)])
    assert Elements(both).tags.count(("script", {})) == 1 and "<img" not in both


def test_the_policy_lets_only_the_pages_own_script_run_and_nothing_load(tmp_path):
    page = run_page(read_run(make_run(tmp_path / "made")))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-") and "unsafe" not in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_a_comparison_shows_results_and_what_differs(tmp_path):
    runs = [read_run(make_run(tmp_path / "a")), read_run(make_run(tmp_path / "b", loss=4.5, learning_rate=0.02))]
    page = comparison_page(runs)
    text = Elements(page).text
    assert "learning_rate 0.01 0.02" in text and "n_layer" not in text and "output_dir" not in text
    assert "validation loss nats per token 4.2500 3.7500" in text
    assert page.count('class="number best"') == 1  # the other measures are equal
    write(tmp_path / "b" / "run_identity.json", {"text": "t", "tokenizer": "another"})
    page = comparison_page([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    assert "different tokenizers" in page and 'class="number best"' not in page


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b"):
        make_run(Path(place, "made"))
    assert main(["report", "a/made", "b/made"]) == 0
    assert "a/made: training" in Path("comparison.html").read_text()


def test_the_command_writes_page_and_picture_into_the_folder(tmp_path, capsys):
    folder = make_run(tmp_path / "ma$de_{x}$", steps=7, total=10)
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == [str(folder / "report.html"), str(folder / "loss_curve.png")]
    assert (folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == (folder / "report.html").read_text()
    assert not (tmp_path / "loss_curve.png").exists()


def test_documents_are_counted_by_length():
    import numpy as np

    assert documents_by_length([np.array([4, 7]), np.array([], int), np.array([8, 40])]) == [
        [4, 7, 2],
        [8, 15, 1],
        [16, 31, 0],
        [32, 63, 1],
    ]
    assert documents_by_length([np.array([1, 2**32 - 1])])[-1] == [2**31, 2**32 - 1, 1]
