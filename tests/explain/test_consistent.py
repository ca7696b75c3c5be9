"""What is said of one loss agrees with itself: its forecast, what else the run could be, and the advice."""

from dataclasses import replace

import pytest

from clm.config.command_line import parse
from clm.explain.advice import regularisation, schedule
from clm.explain.advice.case import Case
from clm.explain.explain import explain_recipe
from clm.explain.outlook import decays
from clm.explain.setup import of_recipe
from tests.tiny import ROOT


def recipe(*argv):
    return parse(["--config", str(ROOT / "recipes/quickstart.json"), *argv])


def case(*argv, step=800, loss=4.0, tokens=None):
    return Case(of_recipe(recipe(*argv), tokens), step, loss, None)


@pytest.mark.parametrize("step", [100, 400])
def test_twice_the_steps_are_those_of_the_whole_run_and_end_below_its_forecast(step):
    made = explain_recipe(recipe(), step, 4.6, 2_500_000)
    end = made["forecast"]["final"]["loss"]
    twice = next(each for each in made["what_if"] if each["title"].startswith("twice"))
    assert twice["title"] == "twice the steps (2,200)"
    assert twice["loss"] == pytest.approx(end + twice["change"]) and twice["change"] < 0
    assert any("2,200 steps (twice the steps)" in each["title"] for each in made["advice"])


def test_a_training_loss_is_not_given_what_overfitting_adds_to_a_validation_loss():
    made = explain_recipe(recipe("--weight_decay", "0"), 800, 4.0, 60_000)  # 27 epochs
    assert all(each["loss"] < 4.1 for each in made["what_if"])
    assert any(each["gain_nats"] > 1 for each in made["advice"])  # which is on the validation loss


COSINE = ("--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs")
WSD = '{"num_decay_steps": 80, "min_lr_ratio": 0.0, "decay_type": "linear"}'


@pytest.mark.parametrize(
    ("schedule_keys", "does"),
    [
        (("--lr_scheduler_type", "warmup_stable_decay", "--lr_scheduler_kwargs", WSD), True),
        ((*COSINE, '{"min_lr_rate": 0.5}'), True),
        ((*COSINE, '{"min_lr_rate": 0.7}'), False),
        (("--lr_scheduler_type", "constant_with_warmup"), False),
    ],
)
def test_a_schedule_decays_that_ends_at_half_of_its_peak_or_less(schedule_keys, does):
    assert decays(of_recipe(recipe(*schedule_keys), 2_500_000)) is does


def test_a_rate_that_suits_adamw_is_not_advised_for_an_optimizer_without_references():
    given = ("--optim", "sgd", "--learning_rate", "0.1")
    assert not list(schedule.rate(case(*given, tokens=2_500_000)))
    made = explain_recipe(recipe(*given), 400, 4.6, 2_500_000)
    assert any("its optimizer is sgd" in clause for clause in made["forecast"]["outside_the_evidence"])


def test_little_dropout_costs_little_and_an_unknown_length_is_said():
    gains = []
    for dropout in ("0.01", "0.05", "0.3"):
        all_of = ("--resid_pdrop", dropout, "--embd_pdrop", dropout)
        (advice,) = regularisation.regularisation(case(*all_of, tokens=2_500_000))
        gains.append(advice.gain_nats)
    assert gains == pytest.approx([gains[2] / 100, gains[2] / 4, gains[2]])
    setup = of_recipe(recipe("--resid_pdrop", "0.1"), 2_500_000)
    unknown = replace(setup, text=replace(setup.text, never_repeated=True))
    (advice,) = regularisation.regularisation(Case(unknown, 800, 4.0, None))
    assert "its length isn't known" in advice.text


def test_decay_is_advised_once_and_the_words_fit_the_change():
    titles = [each["title"] for each in explain_recipe(recipe("--weight_decay", "0"), 800, 4.0, 60_000)["advice"]]
    assert sum("eight decay" in title for title in titles) == 1
    for given, words in (
        ((), "against overfitting"),
        (("--weight_decay", "1.6"), "less of the one and more of the other"),
    ):
        texts = [advice.text for advice in regularisation.epochs(case(*given, tokens=400_000))]
        assert not texts or any(words in text for text in texts), texts


def test_too_early_a_loss_is_said_to_be_too_early():
    made = explain_recipe(recipe(), 5, 7.0, 2_500_000)
    end = next(" ".join(part["lines"]) for part in made["sections"] if part["key"] == "end")
    assert made["forecast"] is None and "as few tokens as this one has now" in end
