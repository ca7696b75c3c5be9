"""Which trial comes next: after a kill, beside another process, at the end of the budget."""

import math

import optuna
import pytest

from clm.errors import UserError
from clm.sweep.study import Study, best_of, repeat_of
from tests.sweep.made import BOTH, RATE, make_sweep, outcome, run_through


def bowl(taken) -> float:
    """Lowest, 3.0, at a rate of 0.03."""
    return 3.0 + 0.1 * math.log10(taken.values["learning_rate"] / 0.03) ** 2


def test_the_first_trial_is_the_base_recipe_and_the_search_finds_the_bottom(workplace):
    study = Study(make_sweep(trials=14))
    tried = run_through(study, bowl)
    assert len(tried) == 14
    assert tried[0] == {"learning_rate": 0.01}
    assert best_of(study.trials).value < 3.02


def test_a_base_recipe_outside_the_space_is_no_trial(workplace):
    assert (
        run_through(Study(make_sweep(vary={"learning_rate": {"uniform": [0.1, 0.2]}})), bowl)[0]["learning_rate"] > 0.1
    )


def test_values_that_the_trials_are_enough_for_are_each_tried_once(workplace):
    def of_base(taken):
        return 3.0

    seeds = {"data_seed": {"choices": [3, 1, 2]}}
    assert run_through(Study(make_sweep(vary=seeds, trials=3)), of_base) == [{"data_seed": seed} for seed in (3, 1, 2)]
    both = {"n_layer": {"integer": [1, 3]}, "n_head": {"choices": [1, 2]}}  # the base has 2 layers and 2 heads
    tried = run_through(Study(make_sweep(vary=both, trials=6, output_dir="both")), of_base)
    assert [tuple(values.values()) for values in tried] == [(2, 2), (1, 1), (1, 2), (2, 1), (3, 1), (3, 2)]


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(workplace):
    undisturbed = run_through(Study(make_sweep(vary=BOTH, trials=12)), bowl)
    killed = make_sweep(vary=BOTH, trials=12, output_dir="killed")
    tried = []
    for number in range(12):
        study = Study(killed)
        taken = study.take()
        assert taken.number == number
        taken.lock.release()  # as the kernel does when its process is killed
        tried += run_through(Study(killed), bowl, most=1)
    assert tried == undisturbed


def test_two_processes_share_a_study_and_take_no_trial_twice(workplace):
    sweep = make_sweep(trials=3)
    one, other = Study(sweep), Study(sweep)
    first, second = one.take(), other.take()
    assert (first.number, second.number) == (0, 1)
    third = one.take()
    assert third.number == 2
    assert other.take() is None  # the budget is spent, the rest is under way elsewhere
    for study, taken in ((one, first), (other, second), (one, third)):
        study.finish(taken, outcome(bowl(taken)))
    assert one.take() is None


def test_the_best_is_repeated_and_its_repeats_are_no_part_of_the_search(workplace):
    study = Study(make_sweep(trials=3, repeats=2))
    taken = []
    run_through(study, lambda one: taken.append(one) or (1.0 if one.repeat else bowl(one)))
    best = best_of(study.trials)
    assert [one.repeat for one in taken] == [0, 0, 0, 1, 2]
    assert [one.values for one in taken[3:]] == [best.params] * 2
    assert not repeat_of(best) and best.value >= 3.0


def test_minutes_are_those_of_all_trials(workplace):
    assert len(run_through(Study(make_sweep(trials=None, minutes=2.5)), bowl)) == 3  # of a minute each


def test_diverged_and_failed_trials_are_recorded_and_never_the_best(workplace):
    kinds = {0: "diverged", 1: "failed", 2: "complete", 3: "complete"}
    study = Study(make_sweep())
    run_through(study, lambda one: outcome(bowl(one) if one.number > 1 else 0.5, kinds[one.number]))
    states = [trial.state.name for trial in study.trials]
    assert states == ["PRUNED", "FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.user_attrs["kind"] for trial in study.trials] == list(kinds.values())
    assert best_of(study.trials).number >= 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vary": {"learning_rate": {"log_uniform": [1e-4, 0.5]}}}, "vary learning_rate high was 1.0 and is 0.5"),
        ({"vary": {**RATE, "n_layer": {"integer": [1, 2]}}}, "vary n_layer was null"),
        ({"tokens": 2304}, "tokens was 1152 and is 2304"),
        ({"set": {"n_embd": 32}}, "set n_embd was null and is 32"),
        ({"seed": 1}, "seed was 0 and is 1"),
    ],
)
def test_a_study_of_another_search_is_refused(workplace, changes, says):
    Study(make_sweep())
    with pytest.raises(UserError, match="made with another search") as error:
        Study(make_sweep(**changes))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_search_of_a_version_that_knew_fewer_keys_goes_on(workplace):
    study = Study(make_sweep())
    known = study.optuna.user_attrs["search"]
    for key in ("csv_delimiter", "distillation_weight"):  # the one null by default, the other not
        del known["recipe"][key]
    study.optuna.set_user_attr("search", known)
    assert Study(make_sweep()).trials == []
    known["recipe"]["csv_delimiter"] = ";"
    study.optuna.set_user_attr("search", known)
    with pytest.raises(UserError, match='recipe csv_delimiter was ";" and is null'):
        Study(make_sweep())


def test_more_trials_go_on_from_there(workplace):
    run_through(Study(make_sweep(trials=2)), bowl)
    assert len(run_through(Study(make_sweep(trials=5)), bowl)) == 3


def test_a_file_that_is_no_study_is_refused(workplace):
    sweep = make_sweep()
    sweep.output_dir.mkdir()
    (sweep.output_dir / "study.db").write_text("nothing of the kind, and long enough to be read as a header\n" * 3)
    with pytest.raises(UserError, match=r"study.db: not a study"):
        Study(sweep)


def test_a_trial_that_was_killed_before_it_had_values_is_passed_over(workplace):
    sweep = make_sweep(trials=2)
    study = Study(sweep)
    optuna.load_study(storage="sqlite:///sweep/study.db", study_name="sweep").ask()
    assert len(run_through(study, bowl)) == 2
