"""The quickstart's own run, which nothing is fitted to: its end lies in every forecast's interval, and is usual."""

import pytest

from clm.config.recipe import load
from clm.explain import normal, outlook
from clm.explain.forecast import Forecast
from clm.explain.setup import Setup
from clm.explain.training_text import Text
from clm.files import read_json
from clm.runs.curve import Curve
from tests.tiny import ROOT

ENDED = 3.8092
# Of the run's data.json.
TEXT = Text(787_862, "measured", 398_977, 2_354_924, unigram_entropy=6.2737, unigram_loss=6.3684)


def setup() -> Setup:
    return Setup(load(ROOT / "recipes" / "quickstart.json"), 2048, 16, TEXT)


def kept() -> dict:
    return read_json(ROOT / "benchmarks" / "results" / "quickstart-curve.json")


def curve() -> Curve:
    return Curve.from_points(kept()["training"], kept()["validation"])


def forecast_at(share: float) -> Forecast | None:
    return outlook.of_run(setup(), curve().until(share * kept()["total_steps"]))


@pytest.mark.parametrize("row", kept()["forecasts"], ids=lambda row: f"step {row['step']}")
def test_the_picture_shows_what_is_forecast_now(row):
    assert row["final"] == pytest.approx(outlook.of_run(setup(), curve().until(row["step"])).final, abs=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_its_end_is_in_the_interval(share):
    final, low, high = forecast_at(share).final
    assert low < ENDED < high and abs(final - ENDED) < 0.1


def test_its_end_is_neither_below_nor_above_what_is_usual():
    assert normal.verdict(setup(), 1100, ENDED, of_training=False).label == "within"
