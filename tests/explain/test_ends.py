"""What is said of a run's end from one loss, of one that is finished, of text seen many times, and of absurd losses."""

import pytest

from clm.config.command_line import parse
from clm.explain import references
from clm.explain.ending import what_if_line
from clm.explain.expected import Model
from clm.explain.explain import end_of, explain_recipe, forecast_as_json, standing
from clm.explain.floor import floor_of, guessed_bytes_per_token, least_loss_of
from clm.explain.forecast import forecast
from clm.explain.outlook import Outlook
from clm.explain.perplexity import perplexity, shown_perplexity
from clm.explain.sections import perplexity_line
from clm.explain.setup import of_recipe
from clm.explain.situation import Point
from clm.runs.curve import Curve
from tests.explain.test_forecast import COSINE, FACTS, law_of, made_up
from tests.explain.test_repetition import EPOCH, situation
from tests.tiny import ROOT

WORDS = 116_944_985


def ask(recipe: str, step: int, loss: float, *argv: str) -> dict:
    return explain_recipe(parse(["--config", str(ROOT / "recipes" / f"{recipe}.json"), *argv]), step, loss, WORDS)


def end(explained: dict) -> str:
    return next(" ".join(part["lines"]) for part in explained["sections"] if part["key"] == "end")


def test_one_loss_gives_a_forecast_with_its_interval_and_says_what_it_rests_on():
    made = ask("wt103", 3000, 3.2)
    final = made["forecast"]["final"]
    assert made["forecast"]["by"] == "one loss" and made["forecast"]["of"] == "training"
    assert final["low"] < final["loss"] < final["high"] < 3.2
    assert f"forecast at {final['loss']:.2f}" in end(made) and "Outside the evidence: 25 epochs" in end(made)


def test_the_expectation_after_a_loss_is_that_of_a_model_that_knows_it():
    points = references.points()
    mine = [point for point in points if point.run == "m-p-2x96-linear"]
    others = [point for point in points if point.run != "m-p-2x96-linear"]
    first, last = mine[0], mine[-1]
    after = Model(others).expect_after(first.situation, (first.step, first.loss), last.step)
    known = Model([*others, Point("this run", first.situation, first.step, first.loss)])
    again = known.expect(last.situation, last.step)
    assert after.loss == pytest.approx(again.loss, abs=0.005) and after.sd == pytest.approx(again.sd, abs=0.001)


def test_a_run_over_more_epochs_than_any_reference_is_not_forecast():
    made = ask("wt103-seed", 3000, 3.9)  # 119,751 M tokens of 116.9 M
    assert made["forecast"] is None and "over its text 1,024 times, and no reference run more than 64" in end(made)


def test_a_finished_run_has_its_measured_end_and_nothing_to_the_sides():
    made = forecast_as_json(end_of(Curve.from_points([], [(50, 4.0), (100, 3.5)]), 100))
    assert made["final"] == {"loss": 3.5, "low": 3.5, "high": 3.5} and made["by"] == "measured"
    assert end_of(Curve.from_points([], [(50, 4.0)]), 100) is None
    assert end_of(Curve.from_points([], [(100, 3.5)]), 100, lost_at=90) is None


def test_no_forecast_leads_below_what_text_can_be_compressed_to():
    law = law_of(COSINE)
    made = forecast(made_up(law, 500), law, FACTS, floor=3.2)
    assert made.final == (3.2, 3.2, 3.2) and made.low.min() == 3.2
    # 0.6 bits per byte x ln 2 = 0.416 nats a byte; a curve below it is of no prose, one of training may know its text.
    assert least_loss_of(guessed_bytes_per_token(257)) == pytest.approx(0.416, abs=0.001)
    curve = Curve.from_points([(1, 3.0)], [])
    assert floor_of(curve, 1.7, 1.0) == 1.7 and floor_of(curve, 3.5, 1.0) == 0 and floor_of(curve, 1.7, 20.0) == 0


def test_what_would_not_help_says_so():
    assert what_if_line(Outlook("a cosine", 3.98, 0.08)).endswith("that is 0.08 higher.")
    assert what_if_line(Outlook("a cosine", 3.9, 0.001)).endswith("that changes nothing.")
    assert "higher" not in what_if_line(Outlook("a cosine", 3.8, -0.1))


def test_a_loss_of_a_thousand_has_a_perplexity_that_can_be_shown():
    assert shown_perplexity(1000.0) == "over 1e300" and shown_perplexity(2.0) == "7.4"
    assert "over 1e300" in perplexity_line(1000.0) and perplexity(1000.0) < float("inf")


def test_what_the_runs_of_many_epochs_do_not_cover_is_said():
    assert situation(32).repetition_beyond(32 * EPOCH) is None
    assert "80 epochs, where" in situation(80).repetition_beyond(80 * EPOCH)
    wide = situation(8, non_embedding_parameters=950_000)  # 950,000 / 20,480 = 46
    assert "46 parameters a token" in wide.repetition_beyond(8 * EPOCH)
    large = situation(8, non_embedding_parameters=2_000_000)
    assert "8 epochs: what overfitting costs" in large.repetition_beyond(8 * EPOCH)
    assert large.repetition_beyond(4 * EPOCH) is None


@pytest.mark.parametrize(("teachers", "named"), [((), True), (("--teachers", "runs/one"), False)])
def test_training_losses_of_a_run_with_teachers_are_held_against_nothing(teachers, named):
    # 2 nats above the validation losses: the validation text stands in the training text, unless teachers set the loss.
    log = [{"step": step, "loss": 8.0 - step / 4000} for step in range(100, 4100, 100)]
    log += [{"step": step, "eval_loss": 6.0 - step / 4000} for step in range(1000, 4100, 1000)]
    setup = of_recipe(parse(["--config", str(ROOT / "recipes/wt103.json"), *teachers]), WORDS)
    assert bool(standing(setup, sorted(log, key=lambda entry: entry["step"]))["findings"]) == named
