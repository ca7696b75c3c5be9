"""Logs become curves with three x axes, and spikes survive the thinning."""

import pytest

from clm.report import rows
from clm.report.charts import Axes, loss_chart, panels, thinned
from clm.runs.record import read_run
from tests.runs.run_folder import explanation, make_run, write


def points(chart):
    return {line.name: line.points for line in chart.lines}


def test_a_point_has_step_tokens_seconds_and_value(tmp_path):
    run = read_run(make_run(tmp_path / "made"))
    found = points(loss_chart([run], ["made"]))
    assert found["training"][:2] == [[1, 16, 2.0, 4.9], [2, 32, 4.0, 4.8]]
    assert found["validation"] == [[5, 80, 10.0, 4.75], [10, 160, 20.0, 4.25]]
    assert [chart.key for chart in panels([run], ["made"])] == [
        "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"
    ]  # fmt: skip


def test_logged_tokens_win_over_counted_ones_and_time_may_be_missing(tmp_path):
    folder = make_run(tmp_path / "made")
    log = [{"step": 2, "loss": 3.0, "num_input_tokens_seen": 100}, {"step": 4, "loss": 2.0, "train_tokens": 0}]
    write(folder / "trainer_state.json", {"global_step": 4, "log_history": log})
    axes = Axes(read_run(folder))
    assert [axes.place(step) for step in (1, 2, 4)] == [[1, 50.0, None], [2, 100.0, None], [4, 200.0, None]]


def test_band_and_forecast_lie_on_the_same_axes_and_go_on_at_the_mean_pace(tmp_path):
    run = read_run(make_run(tmp_path / "made"))
    found = points(loss_chart([run], ["made"], explanation()))
    assert found["expected"] == [[1, 16, 2.0, 3, 6], [10, 160, 20.0, 3, 5]]
    assert found["forecast"] == [[10, 160, 20.0, 4], [20, 320, 40.0, 3.5]]
    assert found["forecast's interval"] == [[10, 160, 20.0, 4, 4], [20, 320, 40.0, 3, 4]]


def test_past_forecasts_lie_where_they_were_made_and_are_told_in_a_table(tmp_path):
    run = read_run(make_run(tmp_path / "made"))
    made = {"loss": 4.25, "low": 4, "high": 4.5}
    said = {"step": 5, "loss": 4.75, "verdict": "within", "band": [3, 6], "forecast": made, "findings": ["overfitting"],
            "total_steps": 10}  # fmt: skip
    end = {**said, "step": 10, "loss": 4.25, "verdict": "can't say", "band": None, "forecast": None, "findings": []}
    explained = explanation() | {"history": [said, end]}
    found = points(loss_chart([run], ["made"], explained))
    assert found["end as forecast then"] == [[5, 80, 10.0, 4.25]]
    assert found["end as forecast then, interval"] == [[5, 80, 10.0, 4, 4.5]]
    assert [list(row.values()) for row in rows.history(explained)] == [
        ["5", "4.7500", "3.00 to 6.00", "within", "4.25 (4.00 to 4.50)", "overfitting"],
        ["10", "4.2500", "not known", "can't say", "it is the end", ""],
    ]


def test_an_end_that_was_measured_is_no_forecast(tmp_path):
    run = read_run(make_run(tmp_path / "made"))
    explained = explanation()
    explained["forecast"] = explained["forecast"] | {"by": "measured"}
    assert "forecast" not in points(loss_chart([run], ["made"], explained))
    assert "forecast" in points(loss_chart([run], ["made"], explanation()))


def test_several_runs_keep_their_names_apart(tmp_path):
    runs = [read_run(make_run(tmp_path / name)) for name in ("a", "b")]
    chart = loss_chart(runs, ["a", "b"])
    assert [(line.name, line.run) for line in chart.lines] == [
        ("a: training", 0), ("a: validation", 0), ("b: training", 1), ("b: validation", 1)
    ]  # fmt: skip


@pytest.mark.parametrize("points", [10, 11, 1000])
def test_thinning_keeps_order_and_the_highest_and_lowest(points):
    rows = [(i, 100.0 if i == 7 else -100.0 if i == 3 else 0.0) for i in range(points)]
    kept = thinned(rows, lambda row: row[1], most=10)
    assert len(kept) <= 10 and kept == sorted(kept)
    assert rows[7] in kept and rows[3] in kept
