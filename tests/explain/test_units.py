"""A loss in words and bytes: by the counts of the text that it is of, and which text that is."""

import math

import pytest

from clm.config.recipe import load
from clm.explain import sections, setup
from clm.explain.normal import Verdict
from clm.explain.training_text import of_statistics
from tests.tiny import ROOT

# Of the validation text 110 tokens are counted and 100 scored, without each document's end: 2 a word, 1/2 a byte.
DATA = {
    "vocab_size": 2048,
    "train": {"tokens": 600_000, "words": 400_000, "bytes": 1_200_000},
    "validation": {"tokens": 110, "documents": 10, "words": 50, "bytes": 200},
}


def meaning(data: dict, kind: str) -> tuple[dict, str]:
    recipe = load(ROOT / "recipes" / "quickstart.json")
    made = setup.of_statistics(recipe, data, 32)
    parts = sections.all_of(made, 100, 3.0, kind, Verdict("within", "", ""), None, [], [], [])
    return sections.numbers(made, 100, 3.0, kind), " ".join(parts[0]["lines"])


def test_a_validation_loss_is_divided_by_the_validation_texts_words_as_its_evaluation_is():
    known, said = meaning(DATA, "validation")
    assert known["nats_per_word"] == 6.0 and known["bits_per_byte"] == pytest.approx(1.5 / math.log(2))
    assert "At the validation text's 2.00 tokens a word" in said and "a word perplexity of 403" in said  # e^6
    assert "At the validation text's 2.00 bytes a token" in said


def test_a_training_loss_and_one_whose_validation_text_is_not_known_by_the_training_texts():
    for data, kind in ((DATA, "training"), ({**DATA, "validation": None}, "validation")):
        known, said = meaning(data, kind)
        assert known["nats_per_word"] == 4.5 and "At the training text's 1.50 tokens a word" in said


def test_a_validation_text_of_documents_without_tokens_is_none():
    assert of_statistics({**DATA, "validation": {"tokens": 10, "documents": 10, "words": 5}}).validation is None


def page(verdict: Verdict, step: int) -> dict[str, list[str]]:
    made = setup.of_statistics(load(ROOT / "recipes" / "quickstart.json"), DATA, 32)
    advice = [{"title": "optim soap", "gain_nats": 0.1, "cost": "no time", "text": "a reason"}]
    parts = sections.all_of(made, step, 3.0, "training", verdict, None, [], advice, [])
    return {part["key"]: part["lines"] for part in parts}


def test_each_thought_of_a_piece_of_advice_begins_with_a_capital():
    assert page(Verdict("within", "", ""), 100)["advice"] == ["1. Optim soap: -0.10 nats; no time. A reason."]


def test_how_sure_a_verdict_is_is_said_of_a_verdict_alone():
    assert page(Verdict("within", "It is.", "80 % band"), 100)["normal"] == ["It is.", "How sure: 80 % band."]
    assert page(Verdict("can't say", "It can't be said.", "too wide"), 100)["normal"] == ["It can't be said."]


def test_many_epochs_are_a_share_without_an_exponent():
    # 600,000 tokens are 4,687 blocks of 128; 10,000 steps of 32 are 320,000 of them.
    assert "320,000 of 4,687, 6,827 %" in " ".join(page(Verdict("within", "", ""), 10_000)["seen"])
