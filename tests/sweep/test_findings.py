"""What the trials say: the flat region, how sure the best is, what pruning would have cost."""

import pytest

from clm.sweep import results
from clm.sweep.findings import find
from clm.sweep.pruning import hopeless, replay
from clm.sweep.study import Study
from tests.sweep.made import BOTH, make_sweep, outcome, run_through

GRID = {"learning_rate": {"choices": [0.01, 0.02, 0.04]}}


def trials_of(sweep, *made: tuple[dict, float]):
    """The trials of a study that was told these values and losses, in this order."""
    study = Study(sweep)
    for values, _ in made:
        study.optuna.enqueue_trial(values)
    losses = iter([loss for _, loss in made])
    run_through(study, lambda one: outcome(next(losses)))
    return study.trials


def rate(value: float, loss: float) -> tuple[dict, float]:
    return {"learning_rate": value}, loss


def test_the_flat_region_is_what_lies_within_the_tolerance_without_a_gap(workplace):
    sweep = make_sweep(trials=6, flat=0.05)
    made = rate(0.001, 3.04), rate(0.003, 3.20), rate(0.01, 3.03), rate(0.02, 3.0), rate(0.05, 3.049), rate(0.2, 3.06)
    found = find(sweep, trials_of(sweep, *made))
    assert found.best.params == {"learning_rate": 0.02}
    assert (found.flat[0].low, found.flat[0].high) == (0.01, 0.05)  # 0.001 is beyond a worse one
    assert str(found.flat[0]) == "0.01 to 0.05"
    assert "4 of them lie within 0.050 nats" in found.sure[0]
    assert "The base recipe's own values end at 3.0300, 0.0300 above" in found.sure[-1]


def test_with_several_keys_a_worse_trial_between_ends_no_region(workplace):
    sweep = make_sweep(vary=BOTH, trials=4, flat=0.05)
    both = [(0.001, 1, 3.04), (0.003, 4, 3.5), (0.02, 1, 3.0), (0.2, 2, 3.6)]
    found = find(sweep, trials_of(sweep, *(({"learning_rate": r, "n_layer": n}, loss) for r, n, loss in both)))
    assert {flat.key: str(flat) for flat in found.flat} == {"learning_rate": "0.001 to 0.02", "n_layer": "1"}
    assert sum(found.importances.values()) == pytest.approx(1)


def test_choices_have_a_list_of_equals(workplace):
    sweep = make_sweep(vary=GRID, trials=3, flat=0.05)
    found = find(sweep, trials_of(sweep, rate(0.01, 3.0), rate(0.02, 3.04), rate(0.04, 3.5)))
    assert str(found.flat[0]) == "0.01, 0.02"


def test_the_noise_of_the_repeats_widens_the_tolerance(workplace):
    sweep = make_sweep(trials=2, repeats=2, flat=0.02)
    study = Study(sweep)
    study.optuna.enqueue_trial({"learning_rate": 0.1})
    losses = iter([3.0, 3.2, 3.0, 3.03])  # two trials, two repeats: a standard deviation of 0.0173
    run_through(study, lambda one: outcome(next(losses)))
    found = find(sweep, study.trials)
    assert found.repeats == [3.0, 3.03]
    assert found.noise == pytest.approx(0.01732, abs=1e-5)
    assert found.tolerance == pytest.approx(2 * 2**0.5 * 0.01732, abs=1e-4)
    assert len(found.flat) == 1 and found.flat[0].low == found.best.params["learning_rate"]


def test_nothing_is_found_where_no_trial_came_to_its_end(workplace):
    sweep = make_sweep(trials=1)
    study = Study(sweep)
    run_through(study, lambda one: outcome(9.0, "failed"))
    assert find(sweep, study.trials) is None


def test_the_best_recipe_is_one_and_says_where_it_is_from(workplace):
    from clm.config.recipe import load

    sweep = make_sweep(trials=3, set={"n_embd": 32})
    found = find(sweep, trials_of(sweep, rate(0.01, 3.0), rate(0.1, 2.5), rate(0.2, 2.6)))
    results.write_data(sweep, found)
    best = load(sweep.output_dir / "best.json")
    assert best.model.n_embd == 32 and best.training["learning_rate"] == 0.1 and best.training["max_steps"] == 6
    assert "learning_rate 0.1 (as good: 0.1)" in best.run.about and "not repeated" in best.run.about
    assert best.training["output_dir"] == "runs/sweep-best"


def test_the_table_has_a_row_for_every_trial_the_best_first(workplace):
    sweep = make_sweep(trials=3)
    lines = results.table(sweep, find(sweep, trials_of(sweep, rate(0.01, 3.0), rate(0.1, 2.5), rate(0.2, 2.51))))
    rows = lines.splitlines()[:4]
    assert [row.split()[0] for row in rows] == ["trial", "1", "2", "0"]
    assert "+0.0100  equal to the best" in rows[2] and rows[3].endswith("+0.5000           complete  1 min 0 s")


def test_only_a_forecast_that_is_above_the_best_at_its_lower_end_is_hopeless():
    assert hopeless((50.0, 3.01, 3.2, 3.4), 3.0)
    assert not hopeless((50.0, 2.99, 3.2, 3.4), 3.0)


def test_pruning_replayed_by_hand():
    never, wrong = ((50.0, 2.9, 3.0, 3.1),), ((50.0, 3.3, 3.4, 3.5),)
    sound = [(3.0, 100, never), (3.5, 100, ((50.0, 3.4, 3.5, 3.6),)), (3.6, 100, ((50.0, 3.4, 3.6, 3.8),))]
    assert replay(sound).lost == 0 and replay(sound).nats == 0
    # The winner is expected to end above 3.2: it is lost in the half of all orders in which that one comes before it.
    unlucky = replay([(3.0, 100, wrong), (3.2, 100, never), (9.0, 100, ())])
    assert unlucky.lost == pytest.approx(0.5, abs=0.07)
    assert unlucky.nats == pytest.approx(0.5 * 0.2, abs=0.015)
    assert unlucky.saved == pytest.approx(0.5 * 50 / 300, abs=0.02)
    assert replay(sound[:2]) is None
