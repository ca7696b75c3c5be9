"""The log of samples: a line a continuation, at every evaluation, whatever happens to the run in between."""

import json
import shutil
from pathlib import Path

from clm.training.callbacks.samples import read
from tests.test_run import history
from tests.tiny import run, write_recipe


def test_every_evaluation_leaves_its_samples_and_a_resumed_run_has_the_same_log(workplace):
    write_recipe(prompts=["ab", "c"], max_steps=9)
    assert run() == 0
    lines = Path("out/samples.jsonl").read_text()
    entries = [json.loads(line) for line in lines.splitlines()]
    assert [(e["step"], e["prompt"], e["mode"]) for e in entries] == [
        (step, prompt, mode) for step in (3, 6, 9) for prompt in ("ab", "c") for mode in ("greedy", "sampled")
    ]
    assert all(set(entry) == {"step", "prompt", "mode", "text"} for entry in entries) and entries == read(Path("out"))
    assert len({entry["text"] for entry in entries}) > 3

    for more in ((), ("--eval_on_start",)):
        # As if it had been killed between step 9's samples and its save, and had been evaluated more often before.
        Path("out/samples.jsonl").write_text(lines + lines.splitlines()[-1].replace('"step": 9', '"step": 8') + "\n")
        shutil.rmtree("out/checkpoint-9")
        Path("out/run_status.json").unlink()
        assert run(*more) == 0
        assert Path("out/samples.jsonl").read_text() == lines


def test_a_run_that_starts_anew_starts_its_log_anew(workplace):
    Path("out").mkdir()
    Path("out/samples.jsonl").write_text('{"step": 1, "prompt": "old", "mode": "greedy", "text": "old"}\n{"st')
    assert run("--max_steps", "3") == 0
    assert {entry["step"] for entry in read(Path("out"))} == {3}


def test_samples_leave_no_trace_in_training(workplace):
    write_recipe(max_steps=4, eval_steps=1, save_steps=4)
    assert run() == 0
    assert run("--output_dir", "seldom", "--eval_steps", "4") == 0
    assert history("out", "loss") == history("seldom", "loss")
    assert len(read(Path("out"))) == 8 and len(read(Path("seldom"))) == 2


def test_a_log_of_something_else_counts_as_none(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"step": 3}\n{"step": 6}\n')
    assert len(read(tmp_path)) == 2
    for other in ("[1]\n", '{"at": 3}\n', '{"step": "3"}\n'):
        (tmp_path / "samples.jsonl").write_text('{"step": 3}\n' + other)
        assert read(tmp_path) == []
