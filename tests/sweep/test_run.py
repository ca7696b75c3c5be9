"""When a trial under way is given up."""

from pathlib import Path

import pytest

from clm.sweep import pruning
from clm.sweep.run import _hopeless
from clm.sweep.study import Study
from tests.sweep.made import make_sweep, outcome, run_through


@pytest.fixture
def asked(workplace, monkeypatch):
    """What is said of the second trial of a sweep, whose best is 3.0, after a step and with a forecast."""
    rows: list[tuple] = []
    monkeypatch.setattr(pruning, "forecasts", lambda _: tuple(rows))

    def ask(prune: bool, *forecasts: tuple, step: int = 40) -> list[bool]:
        sweep = make_sweep(prune=prune)
        study = Study(sweep)
        run_through(study, lambda one: outcome(3.0), most=1)
        taken = study.take()
        rows[:] = forecasts
        Path(f"run/checkpoint-{step}").mkdir(parents=True)
        hopeless = _hopeless(sweep, study, taken)
        answers = [hopeless(Path("run")), hopeless(Path("run"))]
        taken.lock.release()
        return answers

    return ask


def test_one_whose_forecast_is_above_the_best_is_hopeless_and_asked_about_once_a_checkpoint(asked):
    assert asked(True, (20.0, 2.0, 2.5, 3.0), (40.0, 3.1, 3.2, 3.3)) == [True, False]


def test_one_that_may_still_win_is_not(asked):
    assert asked(True, (20.0, 3.1, 3.2, 3.3), (40.0, 2.9, 3.2, 3.3)) == [False, False]


def test_nor_is_one_of_which_nothing_can_be_said_yet(asked):
    assert asked(True) == [False, False]


def test_nor_is_any_where_pruning_was_not_asked_for(asked):
    assert asked(False, (40.0, 3.1, 3.2, 3.3)) == [False, False]
