"""A run's folder is read as far as it is whole; numbers are checked, and what isn't a run is refused."""

import json

import pytest
import transformers

from clm.errors import UserError
from clm.runs.record import read_run
from tests.runs.run_folder import RECIPE, make_run, write


def test_a_finished_run(tmp_path):
    run = read_run(make_run(tmp_path / "made"))
    assert (run.name, run.state, run.step, run.total_steps) == ("made", "finished", 10, 10)
    assert run.best["step"] == 10 and run.metrics["eval_loss"] == 4.25
    assert len([entry for entry in run.log if "loss" in entry]) == 10


def test_an_unfinished_run_is_read_from_its_newest_checkpoint(tmp_path):
    folder = make_run(tmp_path / "made", steps=7, total=10)
    write(folder / "checkpoint-3" / "trainer_state.json", {"global_step": 3, "log_history": []})
    run = read_run(folder)
    assert (run.state, run.step, run.total_steps) == ("running", 7, 10)
    assert run.metrics["eval_loss"] == 4.75 and run.metrics["step"] == 5  # the best so far


def test_a_backup_of_a_checkpoint_is_not_read(tmp_path):
    folder = make_run(tmp_path / "made", steps=7, total=10)
    write(
        folder / "checkpoint-8.bak" / "trainer_state.json", {"global_step": 8, "log_history": [{"step": 8, "loss": 9}]}
    )
    write(folder / "checkpoint-last" / "trainer_state.json", {"global_step": 9, "log_history": []})
    run = read_run(folder)
    assert run.step == 7 and len(run.histories) == 1


def test_the_end_of_a_run_counts_as_finished_before_its_status_says_so(tmp_path):
    folder = make_run(tmp_path / "made")
    write(folder / "run_status.json", {"state": "running", "total_steps": 10})
    assert read_run(folder).state == "finished"
    write(folder / "checkpoint-12" / "trainer_state.json", {"global_step": 12, "log_history": []})  # gone on since
    assert read_run(folder).state == "running" and read_run(folder).trained == {}


def test_tokens_count_the_short_last_step_of_an_epoch(tmp_path):
    folder = make_run(tmp_path / "made")
    about = json.loads((folder / "data.json").read_text())
    about["train"]["tokens"] = 41  # 5 blocks of 8: an epoch is 2 full steps and one of a single block
    write(folder / "data.json", about)
    assert [read_run(folder).tokens_at(step) for step in (1, 2, 3, 4)] == [16, 32, 40, 56]
    (folder / "data.json").unlink()
    assert read_run(folder).tokens_at(3) == 48


@pytest.mark.parametrize("changes", [{}, {"n_inner": 40}, {"tie_word_embeddings": False}])
def test_parameters_are_the_models_own(tmp_path, changes):
    recipe = RECIPE | changes
    keys = ("n_layer", "n_head", "n_embd", "n_inner", "tie_word_embeddings")
    config = transformers.GPT2Config(vocab_size=300, n_positions=8, **{key: recipe[key] for key in keys})
    expected = transformers.GPT2LMHeadModel(config).num_parameters()
    assert read_run(make_run(tmp_path / "made", **changes)).parameters == expected


def test_what_is_no_number_or_no_entry_is_passed_over(tmp_path):
    folder = make_run(tmp_path / "made")
    log = [
        {"step": 1, "loss": "5"},
        {"loss": 4.0},
        7,
        {"step": 2, "loss": float("nan")},
        {"step": 3, "eval_loss": True},
    ]
    write(folder / "trainer_state.json", {"global_step": 3, "log_history": log})
    (folder / "eval_results.json").unlink()
    run = read_run(folder)
    assert [entry["step"] for entry in run.log] == [1, 2, 3] and run.best is None and run.metrics == {}


def test_samples_are_read_up_to_a_half_written_line(tmp_path):
    folder = make_run(tmp_path / "made")
    sample = {"step": 5, "prompt": "The", "mode": "greedy", "text": "a\u2028b"}
    line = json.dumps(sample, ensure_ascii=False)
    (folder / "samples.jsonl").write_text(f"{line}\n{line[:20]}\n[]\n{line}\n{line[:-9]}", "utf-8")
    assert read_run(folder).samples == [sample, sample]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("trainer_state.json", '{"log_history": [', "trainer_state.json: not whole JSON"),
        ("data.json", "[1]", "data.json: not a JSON object"),
        ("recipe.json", b"\xff\xfe", "recipe.json: not whole JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, says):
    folder = make_run(tmp_path / "made")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=says):
        read_run(folder)


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run's folder"):
        read_run(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_run(tmp_path / "none")
