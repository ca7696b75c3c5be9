"""A run is compared with published results only where text and unit are the same."""

import pytest

from clm.evaluation.published import FIGURES, RAW, UNK, rows, table, text_with, which_text
from clm.report import card
from clm.report.report import run_page
from clm.runs.record import read_run
from tests.runs.run_folder import make_run

METRICS = {"eval_loss": 3.0, "perplexity": 20.1, "word_perplexity": 30.0, "bits_per_byte": 1.1,
           "eval_tokens": 10, "eval_words": 9, "eval_bytes": 50}  # fmt: skip
RECIPE = {"dataset_name": "Salesforce/wikitext", "dataset_config_name": "wikitext-103-raw-v1"}


def test_which_text_it_is():
    assert which_text("Salesforce/wikitext", "wikitext-103-raw-v1", "test") == ("test", RAW)
    assert which_text("wikitext", "wikitext-103-v1", "validation") == ("validation", UNK)
    for other in (("wikitext", "wikitext-2-v1", "test"), ("wikitext", "wikitext-103-v1", "train"),
                  ("me/other", "wikitext-103-v1", "test"), (None, None, "test")):  # fmt: skip
        assert which_text(*other) is None
    assert text_with(217_646, 1_121_681) == ("validation", UNK) and text_with(217_646, 1_121_682) is None


def test_this_model_stands_among_the_others_each_once_with_the_figure_of_its_split():
    compared = rows(METRICS, which_text("wikitext", "wikitext-103-v1", "validation"), 110_000_000, True)
    assert [row["value"] for row in compared] == sorted(row["value"] for row in compared)
    [this] = [row for row in compared if not row["source"]]
    assert (this["model"], this["parameters"], this["value"], this["split"]) == (
        "this model",
        "110M",
        30.0,
        "validation",
    )
    shortformer = [row for row in compared if row["model"] == "Shortformer"]
    assert [(row["value"], row["split"]) for row in shortformer] == [(17.47, "validation")]
    assert [row["split"] for row in compared if row["model"] == "QRNN"] == ["test"]
    assert {row["unit"] for row in compared} == {"word_perplexity"}
    assert table(compared).count("\n") == len(compared) + 1 and "| **this model** | 110M | 30.00 |" in table(compared)


def test_every_figure_says_where_it_is_from_and_of_which_form():
    assert all(figure.source and figure.form.startswith((UNK, RAW)) for figure in FIGURES)


@pytest.mark.parametrize("config", ["wikitext-103-raw-v1", "wikitext-2-raw-v1", None, ["a list"]])
def test_the_report_compares_where_the_validation_text_is_wikitexts(tmp_path, config):
    folder = make_run(tmp_path / "run", dataset_name="Salesforce/wikitext", dataset_config_name=config)
    page = run_page(read_run(folder))
    shown = "Among published results" in page and "Dai et al. 2019" in page and "<td>400.00</td>" in page
    assert shown == ("Transformer-XL" in page) == (config == "wikitext-103-raw-v1")


@pytest.mark.parametrize("change", [{}, {"dataset_name": "me/other"}, {"validation_file": "mine.txt"}])
def test_the_model_card_compares_where_the_validation_text_is_wikitexts(tmp_path, change):
    folder = make_run(tmp_path / "run", **{**RECIPE, **change})
    text = card.finished(folder, "me/it")
    assert ("Transformer-XL" in text) == (not change)
