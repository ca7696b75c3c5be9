"""The model card: what it says, and that the Hub takes it."""

import json
from contextlib import chdir
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from clm.report import card
from tests.hub_server import HubServer
from tests.tiny import make_text, run, write_recipe


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with chdir(folder):
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe(max_steps=2, eval_steps=1, save_steps=1, license="mit", language=["en", "de"], prompts=["a ```b"])
        assert run() == 0
    return folder / "out"


@pytest.fixture
def validate(monkeypatch):
    """Have the Hub look at a card, as huggingface_hub does before it pushes one."""
    with HubServer() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        yield lambda text: ModelCard(text).validate()


def test_the_card_says_it_all_and_the_hub_takes_it(run_dir, validate):
    text = card.finished(run_dir, "me/tiny")
    validate(text)
    about = ModelCard(text).data
    assert (about.license, about.language, about.library_name) == ("mit", ["en", "de"], "transformers")
    assert about.pipeline_tag == "text-generation" and about.base_tokenizer == "trained on the training text"
    results = json.loads((run_dir / "eval_results.json").read_text())
    said = {result.metric_type: (result.metric_value, result.metric_name) for result in about.eval_results}
    assert said["perplexity"] == (round(results["perplexity"], 4), "perplexity, per token of this model's tokenizer")
    assert said["bits_per_byte"][1] == "bits_per_byte, bits per byte of UTF-8"
    for section in (
        *("On the validation text", "Is that normal?", "Training", "What it says", "To use it", "Limits and bias"),
        "To train it again",
    ):
        assert f"\n## {section}\n" in text
    for word in (
        f"{results['eval_tokens']:,} tokens", "54 for training, 6 for validation", "time in training", "loss_curve.png",
        "can't be said", 'model="me/tiny"', "run_clm.py --config recipe.json", '"max_steps": 2', "torch 2.", " core",
    ):  # fmt: skip
        assert word in text, word
    assert "````text\n[greedy] a ```b" in text  # a longer fence, so that the sample can't end it


def test_the_check_of_the_test_hub_refuses_what_the_hub_refuses(run_dir, validate):
    text = card.finished(run_dir, "me/tiny")
    for wrong in (text.replace("license: mit", "license: mine"), text.replace("- de", "- German")):
        with pytest.raises(ValueError, match="must be"):
            validate(wrong)


def test_an_unfinished_runs_card_is_taken_too(run_dir, validate):
    text = card.unfinished(run_dir, "me/tiny", 1)
    validate(text)
    assert "**Not finished.** This is the model of step 1 of 2" in text and "perplexity" not in text
