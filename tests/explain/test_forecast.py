"""The forecast on curves whose end is known, and what it knows beforehand of runs small and large."""

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration.fit import fit, runs_at_hand
from calibration.scores import wilson
from calibration.widths import AHEAD, FLOORS, WIDTHS, Misses, surprise
from clm.explain import references
from clm.explain.forecast import NORMAL_QUANTILE, Facts, Law, forecast, knowledge
from clm.explain.forecast.ahead import e_folds
from clm.explain.forecast.facts import inputs, nearest
from clm.explain.forecast.outside import outside
from clm.explain.forecast.posterior import ALPHAS, Observations
from clm.explain.forecast.prior import OTHER_TEXT, Prior
from clm.runs.curve import Curve
from clm.training.schedule import learning_rates

FACTS = Facts(parameters=3e5, tokens=3e6, steps=1000, optimizer="adamw_torch_fused", peak_rate=2e-3)
REFERENCE = runs_at_hand()[0]
LARGE = Facts(parameters=85e6, tokens=2.7e9, steps=5100, optimizer="adamw", peak_rate=1.8e-3)
COSINE = {"lr_scheduler_type": "cosine", "learning_rate": 1e-3, "warmup_steps": 0.05}
CONSTANT = {"lr_scheduler_type": "constant", "learning_rate": 1e-3}
DECAYS = {"lr_scheduler_type": "warmup_stable_decay", "learning_rate": 1e-3, "warmup_steps": 0} | {
    "lr_scheduler_kwargs": {"num_decay_steps": 200, "decay_type": "linear", "min_lr_ratio": 0.0}
}


def law_of(training: dict, steps: int = 1000) -> Law:
    return Law(lambda at: learning_rates(training, steps, at), steps, math.inf)


def made_up(law: Law, until: int) -> Curve:
    """A curve that follows the law exactly: slope 0.4, alpha 0.2, decay 0.3."""
    steps = np.arange(20, until + 1, 20)
    progress = law.progress(steps) / law.progress(np.array([law.total_steps]))
    losses = 3 + 0.4 * (progress**-0.2 - 1) / 0.2 + 0.3 * law.noise(steps)
    return Curve.from_points([], list(zip(steps, losses, strict=True)))


def test_a_step_at_a_quarter_of_the_peak_rate_is_half_of_one_in_progress_and_a_quarter_in_the_sum():
    law = Law(lambda at: np.where(np.asarray(at) <= 100, 1.0, 0.25), 200, math.inf)
    lr_sum, _, _ = law.terms(np.array([100, 200]))
    assert lr_sum == pytest.approx([100, 125]) and law.progress(np.array([100, 200])) == pytest.approx(
        [100, 100 + 100 * 0.25**0.6]
    )


def test_a_single_step_whose_rate_is_0_after_it_counts_as_one_at_the_peak():
    law = law_of({"lr_scheduler_type": "linear", "learning_rate": 1e-3, "warmup_steps": 0}, 1)
    assert [float(term[0]) for term in law.terms(np.array([1]))] == [1, 0, 0]


def test_it_foresees_the_end_of_a_curve_that_follows_the_law_and_grows_surer():
    law = law_of(COSINE)
    end = made_up(law, 1000).losses[-1]
    made = [forecast(made_up(law, until), law, FACTS) for until in (250, 500, 900)]
    assert all(low < end < high for _, low, high in (each.final for each in made))
    widths = [each.high[-1] - each.low[-1] for each in made]
    assert widths == sorted(widths, reverse=True) and made[-1].final[0] == pytest.approx(end, abs=0.02)
    assert made[0].steps[0] == 240 and made[0].steps[-1] == 1000 and made[0].of == "validation"


def test_it_knows_what_another_schedule_would_give():
    law = law_of(CONSTANT)
    curve = made_up(law, 800)
    stays, decays = forecast(curve, law, FACTS), forecast(curve, law, FACTS, instead=law_of(DECAYS))
    assert stays.final[0] - decays.final[0] > 0.1


def test_it_says_nothing_of_a_curve_that_is_too_short_or_still_at_its_plateau():
    law = law_of(COSINE)
    assert forecast(made_up(law, 100), law, FACTS) is None
    assert forecast(made_up(law, 500), law, FACTS, unigram=3.0) is None


def test_without_validation_it_forecasts_the_training_loss_and_is_less_sure():
    law = law_of(COSINE)
    measured = made_up(law, 500)
    trained = Curve.from_points(list(zip(measured.steps, measured.losses, strict=True)), [])
    end = made_up(law, 1000).losses[-1]
    sure, alone = forecast(measured, law, FACTS), forecast(trained, law, FACTS)
    assert alone.of == "training" and alone.low[-1] < end < alone.high[-1]
    assert alone.high[-1] - alone.low[-1] > 2 * (sure.high[-1] - sure.low[-1])


def test_the_decay_brings_a_large_model_less_than_a_small_one():
    small, large = knowledge().prior(FACTS), knowledge().prior(LARGE)
    assert 0.1 < large.decay < 0.2 < small.decay and large.slope < small.slope / 2
    assert knowledge().prior(replace(FACTS, optimizer="muon", peak_rate=8e-3)).decay > 1.3 * small.decay


@pytest.mark.parametrize("entry", references.entries("large_runs.json"), ids=lambda entry: entry["name"])
def test_the_large_reference_runs_are_foreseen_at_a_third(entry):
    law, facts = references.large_law(entry), references.large_facts(entry)
    curve = Curve.from_points(entry["train"], entry["validation"])
    made = forecast(curve.until(law.total_steps / 3), law, facts)
    assert abs(made.final[0] - curve.losses[-1]) < 0.06 and made.high[-1] - made.low[-1] < 0.1
    assert made.outside == ()


def test_what_is_unknown_or_beyond_the_references_is_said_and_widens_the_interval():
    entry = next(entry for entry in references.entries("large_runs.json") if "muon-trapezoid" in entry["name"])
    law, facts = references.large_law(entry), references.large_facts(entry)
    curve = Curve.from_points(entry["train"], entry["validation"]).until(law.total_steps / 4)

    def interval(facts: Facts) -> float:
        made = forecast(curve, law, facts)
        return made.high[-1] - made.low[-1]

    strangers = {
        "size isn't known": replace(facts, parameters=None),
        "tokens of the run aren't known": replace(facts, tokens=None),
        "its optimizer is lion": replace(facts, optimizer="lion"),
        "it has 70 billion non-embedding parameters": replace(facts, parameters=7e10, tokens=7e11),
    }
    for words, stranger in strangers.items():
        assert interval(stranger) > 1.05 * interval(facts), words
        assert words in "; ".join(outside(stranger, knowledge().ranges))
    nobody = Facts(None, None, law.total_steps, None)
    made = forecast(curve, law, nobody)
    assert made.low[-1] < entry["validation"][-1][1] < made.high[-1] and len(made.outside) == 3


def test_what_goes_with_an_exponent_goes_with_it_in_the_prior():
    # Correlation 0.5 of the exponent with ln(decay), 0.2 wide: a deviation up in alpha lifts ln(decay) by 0.1, and
    # leaves sqrt(1 - 0.25) of its width.
    correlations = ((1, 0, 0.5, 0), (0, 1, 0, 0), (0.5, 0, 1, 0), (0, 0, 0, 1))
    prior = Prior(0.2, 0.4, 0.3, 0.1, (0.1, 0.1, 0.2, 0.05), correlations, noise=0.01)
    law = law_of(COSINE)
    mean, spread = Observations(made_up(law, 500), law).expected(prior)
    up = int(np.isclose(ALPHAS, 0.3).argmax())
    assert mean[up, 1:4] == pytest.approx([0.4, 0.3 * math.exp(0.1), 0.1])
    assert math.sqrt(spread[up, 2, 2]) == pytest.approx(mean[up, 2] * 0.2 * math.sqrt(0.75))


def test_a_small_run_on_a_text_of_the_references_is_forecast_with_what_that_text_did():
    law = law_of(COSINE)
    curve = made_up(law, 250)
    unknown, *known = (
        forecast(curve, law, replace(FACTS, text=text)) for text in (None, "python-docs", "wikitext-103")
    )
    # Runs on Python's documentation are missed by most, and a text that isn't known may be like it or not.
    docs, wikitext = (made.high[-1] - made.low[-1] for made in known)
    assert unknown.high[-1] - unknown.low[-1] > docs > 1.2 * wikitext
    docs, wikitext, other = (
        knowledge().prior(replace(FACTS, text=text)) for text in ("python-docs", "wikitext-103", None)
    )
    assert all(wide > max(each) for wide, *each in zip(other.sds, docs.sds, wikitext.sds, strict=True))
    assert docs.slope > 1.2 * wikitext.slope
    assert knowledge().prior(replace(LARGE, text="python-docs")) == knowledge().prior(LARGE)


def test_facts_beyond_the_references_count_as_the_nearest_ones():
    ranges = {
        "large": {"non-embedding parameters": (5e7, 1e9), "tokens a parameter": (10, 100)},
    }
    facts = Facts(parameters=1e9 * math.e, tokens=1e9 * math.e * 50, steps=10000)
    near, farther = nearest(facts, ranges)
    assert near.parameters == 1e9 and near.tokens == pytest.approx(50e9) and farther == pytest.approx(1)
    assert nearest(near, ranges)[1] == pytest.approx(0) and len(inputs(near)) == 17


def test_what_is_fitted_to_large_runs_is_what_their_decays_brought():
    # From the last step before the decay, the trapezoids fell 0.11 to 0.19 nats more than at a constant rate.
    known = fit([run for run in runs_at_hand() if run.large], rounds=5)
    assert 0.1 < known.prior(LARGE).decay < 0.2 and known.ranges.keys() == {"large"}


def test_an_interval_of_a_share():
    # Wilson with z = 1.645: 8 of 10 have the middle (0.8 + 0.1353) / 1.2706 and the half 0.2482 / 1.2706.
    assert wilson(8, 10) == pytest.approx((0.541, 0.931), abs=0.001)


def test_the_noise_of_the_peak_rate_grows_with_progress_and_goes_with_the_decay():
    # At a sixteenth of the steps of a constant rate, (1/16)^0.25 = 1/2 of the noise at the end.
    assert law_of(CONSTANT, 1600).noise(np.array([100, 1600])) == pytest.approx([0.5, 1])
    assert law_of(DECAYS).noise(np.array([1000]))[0] < 0.5  # a part of the decay hasn't taken effect by then


def test_dropout_is_a_fact_of_small_models_up_to_what_the_references_have():
    none, some, more = (inputs(replace(FACTS, dropout=dropout)) for dropout in (0.0, 0.1, 0.3))
    assert np.array_equal(some, more) and (some - none).sum() == pytest.approx(1)
    assert np.array_equal(inputs(replace(LARGE, dropout=0.1)), inputs(LARGE))
    assert "its dropout is 0.3" in "; ".join(outside(replace(FACTS, dropout=0.3), knowledge().ranges))


def test_weight_decay_and_the_embeddings_rate_are_facts_of_small_models_up_to_what_the_references_have():
    known, ranges = knowledge(), knowledge().ranges
    usual, decayed, quick = (inputs(replace(FACTS, **each)) for each in ({}, {"weight_decay": 0.3}, {"embeddings": 2}))
    assert (decayed - usual).sum() == pytest.approx(1) and (quick - usual).sum() == pytest.approx(math.log(2))
    assert np.array_equal(inputs(replace(FACTS, weight_decay=3, embeddings=9)), decayed + quick - usual)
    assert np.array_equal(inputs(replace(LARGE, weight_decay=0.3, embeddings=2)), inputs(LARGE))
    # Embeddings at twice the rate have more noise to lose: eight reference runs fell 0.1 nats further than others.
    assert known.prior(replace(FACTS, embeddings=2)).decay > 1.15 * known.prior(FACTS).decay
    said = "; ".join(outside(replace(FACTS, weight_decay=1.6, embeddings=0.3), ranges))
    assert "its weight decay is 1.6, and it counts as the reference runs' 0.3" in said
    assert "its embeddings' share of the learning rate is 0.3, and it counts as the reference runs' 1" in said


def test_what_is_outside_the_evidence_is_said_in_plain_clauses():
    assert outside(replace(FACTS, text="english"), knowledge().ranges) == []
    unknown = "no small reference run has its text, on which the curve of a small model depends"
    assert outside(FACTS, knowledge().ranges) == [unknown]
    often = replace(LARGE, epochs=103)
    read = "it reads its text 103 times, and reference runs of its size read theirs once"
    assert outside(often, knowledge().ranges) == [read]


def test_an_interval_grows_with_the_progress_to_come():
    # Of a constant rate 1 e-fold of progress is a factor of e in steps: the rest of the variance is that of the law.
    law = law_of(CONSTANT, 1000)
    assert e_folds(law, 100, law, np.array([50, 100, 272, 1000])) == pytest.approx([0, 0, 1, math.log(10)], abs=0.01)
    known, widths = knowledge(), {"small": (1.0, 0.0), "large": (1.0, 0.0)}
    plain, more = (
        forecast(
            made_up(law, 500), law, FACTS, known=replace(known, widths=widths, ahead={OTHER_TEXT: each, "large": 0})
        )
        for each in (0.0, 0.1)
    )
    variances = [((made.high - made.low) / 2 / NORMAL_QUANTILE) ** 2 for made in (plain, more)]
    assert variances[1] - variances[0] == pytest.approx((0.1 * np.log(more.steps / 500)) ** 2, abs=1e-4)


def misses_of(folds: list[float], errors: list[float], groups: str) -> Misses:
    """Of made-up runs, each with one share, of a law that is sure but for 0.01."""
    runs = [replace(REFERENCE, measure=str(i)) for i in range(len(errors))]
    outcomes = np.array([[[error, 0.01]] for error in errors])
    return Misses(runs, list(groups), surprise(outcomes, np.array(folds)[:, None]))


def test_widths_are_the_likeliest_for_what_left_out_runs_missed_by():
    # Errors of 0.1 times the quantiles of Student's t for each e-fold, of group a; half of that in group b.
    quantiles = np.array([0.134, 0.414, 0.741, 1.190, 2.132, -0.134, -0.414, -0.741, -1.190, -2.132])
    folds = np.tile([1.0, 2.0], 5)
    errors = np.concatenate((0.1 * quantiles * folds, 0.05 * quantiles * folds))
    _, ahead = misses_of([*folds, *folds], list(errors), "a" * 10 + "b" * 10).likeliest()
    assert ahead["a"] == pytest.approx(0.1 * 1.533 / NORMAL_QUANTILE, abs=0.025)
    assert ahead["b"] == pytest.approx(ahead["a"] / 2, abs=0.015)


def test_runs_by_muon_and_by_adamw_have_widths_of_their_own():
    quantiles = np.array([0.134, 0.414, 0.741, 1.190, 2.132, -0.134, -0.414, -0.741, -1.190, -2.132])
    misses = misses_of([0.0] * 20, [*(0.004 * quantiles), *(0.015 * quantiles)], "a" * 20)
    muon = replace(REFERENCE.facts, optimizer="muon")
    runs = [run if i < 10 else replace(run, facts=muon) for i, run in enumerate(misses.runs)]
    widths, _ = replace(misses, runs=runs).likeliest()
    spread = {kind: math.hypot(WIDTHS[i] * 0.01, FLOORS[j]) for kind, (i, j) in widths.items()}
    assert spread["small muon"] > 2 * spread["small"]
    known = replace(knowledge(), widths=knowledge().widths | {"small": (0.5, 0.0), "small muon": (0.9, 0.02)})
    assert known.prior(FACTS).floor == 0 and known.prior(replace(FACTS, optimizer="muon")).floor == 0.02


def test_runs_of_one_measure_weigh_as_the_root_of_their_number_and_are_left_out_together():
    misses = misses_of([1.0] * 5, [0.1] * 5, "a" * 5)
    runs = [replace(run, measure=measure) for run, measure in zip(misses.runs, "vvvvw", strict=True)]
    alike = replace(misses, runs=runs)
    assert alike.surprise.shape == (len(WIDTHS), len(FLOORS), len(AHEAD), 5)
    assert alike.weighed[0, 0, 0] / alike.surprise[0, 0, 0] == pytest.approx([0.5] * 4 + [1])
    assert len(alike.without(lambda run: run.measure, "v").runs) == 1
