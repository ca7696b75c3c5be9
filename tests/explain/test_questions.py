"""Losses that people ask about: each gets the right first sentence and the right next step."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from clm.config.command_line import parse
from clm.config.recipe import load
from clm.errors import UserError
from clm.explain.advice.advise import advise
from clm.explain.explain import explain_recipe, explain_run
from clm.explain.faults import checks, level_faults, single_loss
from clm.explain.faults.evidence import Evidence
from clm.explain.floor import least_loss
from clm.explain.references import entries
from clm.explain.setup import Setup, of_recipe
from clm.explain.training_text import Text
from clm.runs.curve import Curve
from clm.runs.record import read_run
from tests.explain.planted import BASE, sentences, write_texts
from tests.tiny import ROOT, run, write_recipe

SEED = str(ROOT / "recipes" / "wt103-seed.json")  # ln(32,000) = 10.37; 32,768 tokens a step, in 8 batches
WORDS = 116_944_985


def ask(step: int, loss: float, *argv: str, tokens: int = WORDS) -> dict:
    """What is said of a training loss of the recipe, with other values on the command line."""
    return explain_recipe(parse(["--config", SEED, *argv]), step, loss, tokens)


def page_of(explained: dict) -> str:
    return " ".join(line for section in explained["sections"] for line in section["lines"])


# (question, step, loss, other values, tokens of the text, name of the fault, what its text says)
QUESTIONS = [
    ("stuck at ln V", 2_000, 10.4, [], WORDS, "nothing is learned", ["this is sure", "learn a single batch by heart"]),
    ("near the unigram entropy", 20_000, 7.5, [], WORDS, "plateau at the unigram entropy", ["likely", "single batch"]),
    (
        "near it, at a rate far too high",
        20_000, 7.3, ["--learning_rate", "0.1"], WORDS,
        "plateau at the unigram entropy", ["likeliest first: the learning rate (1.0e-01, 1"],
    ),
    ("falls to 0.0x", 300, 0.03, [], WORDS, "near zero", ["surely a fault or no prose", "the labels aren't shifted"]),
    ("a tiny text", 10_000, 0.02, [], 400_000, "near zero", ["very likely knows the text by heart", "validation loss"]),
    ("perplexity of thousands", 20_000, 8.5, [], WORDS, "far above the band", ["perplexity 4,915", "Train the recipe"]),
    ("in bits", 3_000, 3.9 / math.log(2), [], WORDS, "far above the band", ["in bits (3.90 nats would be usual)"]),
    ("summed", 3_000, 8 * 3.9, [], WORDS, "mis-scaled accumulation", ["3.90 would be usual", "summed over them"]),
    ("divided", 3_000, 3.9 / 8, [], WORDS, "mis-scaled accumulation", ["once too often", "num_items_in_batch"]),
    ("above ln V", 3_000, 13.0, [], WORDS, "loss above ln(vocabulary)", ["surely no sound mean", "Evaluate fresh"]),
    ("fine-tuned", 500, 2.9, [], WORDS, "far below the band", ["can't tell why; likeliest first: it is fine-tuned"]),
    ("too good for prose", 20_000, 1.4, [], WORDS * 30, "too good to be true", ["1.66 nats that English prose"]),
]  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS, ids=[question[0] for question in QUESTIONS])
def test_a_fault_comes_first_and_nothing_is_foretold_or_advised_before_it(question):
    _, step, loss, argv, tokens, name, says = question
    explained = ask(step, loss, *argv, tokens=tokens)
    [fault] = explained["findings"]
    assert fault["name"] == name and [part for part in says if part not in fault["text"]] == [], fault["text"]
    assert explained["sections"][0]["key"] == "findings"
    assert explained["advice"] == explained["what_if"] == [] and explained["forecast"] is None
    assert page_of(explained).count("Can't say before what is wrong is mended") == 2


@pytest.mark.parametrize("loss", [3.2, 3.5, 3.9, 4.3])
def test_a_usual_loss_shows_no_fault_and_gets_advice(loss):
    explained = ask(3_000, loss)
    assert explained["findings"] == [] and explained["advice"] and explained["what_if"]


def test_no_gain_and_no_forecast_lead_below_what_prose_can_be_compressed_to():
    # 0.6 bits per byte x ln 2 x (2.41 + 0.46 ln(32,000 / 1,024) = 3.99) bytes a token = 1.66 nats.
    setup = of_recipe(parse(["--config", SEED]), WORDS)
    least = least_loss(setup)
    assert least == pytest.approx(1.66, abs=0.005)
    gains = [each["gain_nats"] for each in advise(setup, 300, least + 0.1, least=least) if each["gain_nats"]]
    assert gains and max(gains) == pytest.approx(0.1)
    assert max(each["gain_nats"] or 0 for each in advise(setup, 300, least + 0.1)) > 1
    for step, loss in ((300, 0.03), (300, 1.7), (3_000, 2.4), (3_000, 3.3), (20_000, 2.9), (20_000, 10.4)):
        assert not re.search(r"(?<![\w(])-\d+\.\d\d(?! nats)", page_of(ask(step, loss))), (step, loss)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (math.nan, "the run has broken down: a weight or a gradient became NaN or infinite.*last checkpoint before it"),
        (math.inf, "the run has broken down"),
        (-0.4, "never negative"),
        # 127,795.2 / (8 x 4 x 1,024) = 3.9; a micro-batch has 4 x 1,024 tokens
        (127_795.2, r"no mean over tokens: .*3.9 over a step's 32,768, 31.2 over a micro-batch's 4,096"),
    ],
)
def test_what_is_no_mean_over_tokens_is_said_with_what_to_do(loss, says):
    with pytest.raises(UserError, match=says) as caught:
        ask(3_000, loss)
    assert "\n" not in str(caught.value)


def test_a_model_of_bytes_is_told_what_its_loss_would_be_of_longer_tokens():
    page = page_of(ask(3_000, 1.2, "--vocab_size", "257"))
    # 1.2 / ln 2 = 1.731; 1.2 x 4.2 = 5.04
    assert "A token is a byte here, so it is 1.731 bits per byte" in page and "would show about 5.04" in page
    assert "ln(257) = 5.55" in page


def test_another_language_is_not_held_against_english_without_a_word():
    assert "The text is in de, the references are in English" in page_of(ask(3_000, 3.9, "--language", "de"))
    assert "the references are in English" not in page_of(ask(3_000, 3.9))


def test_no_loss_of_a_reference_run_shows_a_fault(tmp_path):
    seen = 0
    for entry in entries("small_runs.json"):
        recipe = load(write_recipe_of(entry, tmp_path))
        text = Text(
            entry["dataset_tokens"], "given", bytes=entry["dataset_bytes"], unigram_entropy=entry["unigram_loss"]
        )
        setup = Setup(recipe, entry["recipe"]["vocab_size"], recipe.sequences_per_step(1), text)
        for step, loss in entry["train"]:
            assert single_loss.find(setup, int(step), loss, None) == [], (entry["name"], step, loss)
            seen += 1
    assert seen > 5_000


def write_recipe_of(entry: dict, folder: Path) -> Path:
    kept = {key: value for key, value in entry["recipe"].items() if not key.startswith("dataset_")}
    return Path(folder, write_recipe(str(folder / "reference.json"), **{**kept, "train_file": "text.txt"}))


def shown(losses: list[float], validation: list[tuple[float, float]] = ()) -> Evidence:
    """A curve with a loss each 10 steps, where an epoch has 1,000."""
    curve = Curve.from_points([(10 * n, loss) for n, loss in enumerate(losses, 1)], list(validation))
    return Evidence(curve, 1_000, 6.0, 1_000, 1_000_000, 1, 1e-3, 1e-3)


def falling(per_epoch: float, within: float) -> list[float]:
    """From 5.0 over three epochs: `within` lower at each epoch's end than its start, `per_epoch` more at each start."""
    noise = np.random.default_rng(0).normal(0, 0.02, 300)
    return [5.0 + per_epoch * (n // 100) - within * (n + 1) / 100 + noise[n] for n in range(300)]


def test_stairs_at_each_epoch_are_memory_and_no_fault():
    [fault] = checks.find(shown(falling(per_epoch=-0.3, within=0.1)))
    assert fault["name"] == "stairs at each epoch" and "falls by 0." in fault["text"]
    assert "only the validation loss tells" in fault["text"] and not checks.comes_first([fault])


def test_a_loss_that_rises_at_each_epochs_start_is_about_the_order_of_samples():
    # within an epoch it falls by 0.6, and of that 0.4 come back
    noise = np.random.default_rng(0).normal(0, 0.02, 300)
    losses = [5.0 - 0.2 * (n // 100) - 0.6 * (n % 100) / 100 + noise[n] for n in range(300)]
    [fault] = checks.find(shown(losses))
    assert fault["name"] == "rises at each epoch" and "shuffle samples anew" in fault["text"]


def test_a_loss_that_falls_evenly_shows_neither():
    assert checks.find(shown(falling(per_epoch=0.0, within=0.3))) == []


def test_a_validation_loss_a_little_below_the_training_loss_is_usual():
    losses = falling(per_epoch=0.0, within=0.3)
    below = shown(losses, [(step, losses[step // 10 - 1] - 0.1) for step in (1_000, 2_000, 2_900)])
    said = level_faults.validation_below(below, 0.1)
    assert re.search(r"0\.(09|10|11) nats below", said) and "dropout (0.1) makes only training harder" in said
    above = shown(losses, [(step, losses[step // 10 - 1] + 0.1) for step in (1_000, 2_000, 2_900)])
    assert level_faults.validation_below(above, 0.1) is None


def test_a_real_run_whose_validation_loss_is_below_is_told_so(workplace):
    write_texts(sentences(300, seed=2), sentences(40, seed=3))
    write_recipe(**(BASE | {"max_steps": 120, "resid_pdrop": 0.4, "embd_pdrop": 0.4}))
    assert run() == 0
    explained = explain_run(read_run(Path("out")))
    [normal] = [section for section in explained["sections"] if section["key"] == "normal"]
    assert "nats below the training loss, which is usual: dropout (0.4)" in normal["lines"][-1]


def test_a_real_run_that_learns_nothing_is_stopped_at_its_first_fault(workplace):
    write_texts(sentences(900, seed=2), sentences(40, seed=3))
    write_recipe(**(BASE | {"learning_rate": 2e-4, "lr_scheduler_type": "constant", "warmup_steps": 0}))
    assert run() == 0
    explained = explain_run(read_run(Path("out")))
    assert [fault["name"] for fault in explained["findings"]] == ["learning rate too low"]
    assert explained["sections"][0]["key"] == "findings" and explained["advice"] == []


def test_a_verdict_says_where_no_reference_run_has_the_optimizer():
    said = "outside the evidence: its optimizer is sgd, which no reference run has"
    assert said in ask(3_000, 3.9, "--optim", "sgd")["verdict"]["confidence"]
    for known in ("adamw_torch", "muon"):
        assert "outside the evidence" not in ask(3_000, 3.9, "--optim", known)["verdict"]["confidence"], known
