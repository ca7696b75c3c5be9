"""Each format of logs, from a file that code made in that shape; and logs that are damaged or in another unit."""

import json
import math
import resource
from pathlib import Path

import numpy as np
import pytest

from clm.errors import UserError
from clm.runs.logs.log import Known, Log
from clm.runs.logs.read import read_log
from tests.runs import log_shapes as shapes
from tests.runs.log_shapes import EVALUATED, STEPS, TEXTS, train, validation


def read(tmp_path: Path, lines, name: str = "a.log", **known) -> Log:
    path = tmp_path / name
    path.write_text(lines if isinstance(lines, str) else "\n".join(lines) + "\n", "utf-8")
    return read_log(str(path), Known(**known))


def is_the_curve(log: Log, tolerance: float = 6e-4) -> bool:
    """Whether both losses are those of log_shapes, at their steps."""
    curve = log.curve
    assert curve.train_steps.tolist() == [s for s in STEPS if s in curve.train_steps] and len(curve.train_steps) >= 39
    assert curve.steps.tolist() == [s for s in EVALUATED if s in curve.steps] and len(curve.steps) >= 7
    assert np.allclose(curve.train_losses, [train(s) for s in curve.train_steps], atol=tolerance)
    return np.allclose(curve.losses, [validation(s) for s in curve.steps], atol=tolerance)


@pytest.mark.parametrize("name", TEXTS)
def test_a_format(tmp_path, name):
    log = read(tmp_path, TEXTS[name]())
    # nanochat's bits per byte are read at 4.3 bytes a token and not 4.5: its training loss, a little lower, tells it.
    assert is_the_curve(log, 0.5 if name == "nanochat" else 6e-4)
    assert log.total_steps == (1000 if name in ("nanochat", "modded-nanogpt") else None)


@pytest.mark.parametrize("text", [False, True])
def test_the_trainers_printed_dicts_count_by_logging_steps_or_by_progress_bars(tmp_path, text):
    given = read(tmp_path, shapes.trainer(text), logging_steps=10)
    assert is_the_curve(given) and given.total_steps is None
    bars = read(tmp_path, shapes.trainer(text, bars=True))
    assert is_the_curve(bars) and bars.total_steps == 1000
    assert "10 steps apart (logging_steps)" in bars.remarks[1]
    with pytest.raises(UserError, match=r"a\.log: its losses come without steps.*--logging_steps N"):
        read(tmp_path, shapes.trainer(text))


def test_dicts_of_a_run_that_was_resumed_begin_where_its_progress_bars_are(tmp_path):
    lines = list(shapes.trainer(bars=True))[30:]
    log = read(tmp_path, lines)
    assert log.curve.train_steps[0] > 100
    assert np.allclose(log.curve.train_losses, [train(s) for s in log.curve.train_steps], atol=6e-4)


def test_trainer_state_as_a_file_and_in_a_folder_with_checkpoints(tmp_path):
    for indent in (None, 2):
        text = json.dumps(json.loads(shapes.trainer_state()), indent=indent)
        log = read(tmp_path, text, "trainer_state.json")
        assert is_the_curve(log) and log.total_steps == 1000
    for step, name in ((390, "checkpoint-390"), (100, "checkpoint-100")):
        (tmp_path / "run" / name).mkdir(parents=True)
        state = json.loads(shapes.trainer_state())
        state["log_history"] = [entry for entry in state["log_history"] if entry["step"] <= step]
        (tmp_path / "run" / name / "trainer_state.json").write_text(json.dumps(state))
    log = read_log(str(tmp_path / "run"))
    assert is_the_curve(log) and "checkpoint-390" in log.remarks[0]


def test_tensorboard_as_a_file_a_folder_and_a_folder_for_each_kind(tmp_path):
    both = [(float(s), "train/loss", s, train(s)) for s in STEPS]
    both += [(s + 0.5, "eval/loss", s, validation(s)) for s in EVALUATED]
    shapes.write_events(tmp_path / "runs" / "host", sorted(both))
    (event_file,) = (tmp_path / "runs" / "host").iterdir()
    assert is_the_curve(read_log(str(event_file))) and is_the_curve(read_log(str(tmp_path / "runs")))
    for folder, of in (("train", "train/loss"), ("validation", "eval/loss")):
        shapes.write_events(tmp_path / "two" / folder, [(t, "loss", s, v) for t, tag, s, v in both if tag == of])
    assert is_the_curve(read_log(str(tmp_path / "two")))
    shapes.write_events(tmp_path / "runs" / "other", both)
    with pytest.raises(UserError, match="several runs side by side"):
        read_log(str(tmp_path / "runs"))


def test_a_tensorboard_run_that_was_resumed_writes_a_second_file(tmp_path):
    rows = [(float(s), "train/loss", s, train(s)) for s in STEPS]
    shapes.write_events(tmp_path, [(t, tag, s, v + (s >= 200)) for t, tag, s, v in rows if s < 300], ".0")
    shapes.write_events(tmp_path, [(t + 1000, tag, s, v) for t, tag, s, v in rows if s >= 200], ".1")
    log = read_log(str(tmp_path))
    assert np.allclose(log.curve.train_losses, [train(s) for s in STEPS], atol=1e-5)
    assert "from 290 to 200: a resume, so the later losses count" in " ".join(log.remarks)


def test_tensorboards_own_csv_has_one_column_of_values(tmp_path):
    log = read(tmp_path, ["Wall time,Step,Value", *(f"1718000000.5,{s},{train(s)}" for s in STEPS)])
    assert np.allclose(log.curve.train_losses, [train(s) for s in STEPS]) and not len(log.curve.losses)


def test_a_plot_of_trackios_alone_has_one_loss_and_one_of_two_runs_is_refused(tmp_path):
    log = read(tmp_path, shapes.trackio_plot("eval/loss", {s: validation(s) for s in EVALUATED}))
    assert log.curve.steps.tolist() == list(EVALUATED) and not len(log.curve.train_losses)
    lines = list(shapes.trackio_plot("train/loss", {s: train(s) for s in STEPS}))
    with pytest.raises(UserError, match=r"several runs side by side .*'calm-lake-2', 'dry-hill-3'"):
        read(tmp_path, [*lines, *(line.replace("calm-lake-2", "dry-hill-3") for line in lines[1:])])


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("step,loss,eval_loss,lr", "'loss' and validation loss from 'eval_loss', steps from 'step'; not read: 'lr'"),
        ("iter,trainLoss,Val Loss,lr", "'trainLoss' and validation loss from 'Val Loss', steps from 'iter'"),
        ("Global Step,lm loss,validation/loss,loss_scale", "not read: 'loss_scale'"),
        ("global_step;loss/train;loss/val;aux_loss", "not read: 'aux_loss'"),
        ("step\ttrain_nll\tdev_loss\tval_ppl_count", "'train_nll' and validation loss from 'dev_loss'"),
    ],
)
def test_names_are_matched_loosely_and_said(tmp_path, header, what):
    delimiter = next(mark for mark in ";\t," if mark in header)
    lines = [header, *(line.replace(",", delimiter) for line in list(shapes.csv())[1:])]
    log = read(tmp_path, lines)
    assert is_the_curve(log) and what in log.remarks[0]


# What can be wrong with a log


def test_text_between_the_lines_and_headers_again_are_passed_over(tmp_path):
    lines = list(shapes.csv())
    log = read(tmp_path, ["# made by hand", *lines[:9], "WARNING: nvlink is slow, retrying", lines[0], "", *lines[9:]])
    assert is_the_curve(log) and "without 2 lines that are none of it" in log.remarks[0]
    noisy = [
        line
        for pair in zip(shapes.nanogpt(), ["loss of signal", "[rank0]: step back"] * 60, strict=False)
        for line in pair
    ]
    assert is_the_curve(read(tmp_path, noisy))


def test_a_resume_counts_later_a_restart_counts_on_and_of_two_runs_the_last_is_read(tmp_path):
    first = [f"{s},{train(s) + (s >= 200)}" for s in range(0, 300, 10)]
    resumed = read(tmp_path, ["step,loss", *first, *(f"{s},{train(s)}" for s in range(205, 400, 10))])
    assert resumed.curve.train_steps.tolist() == [*range(0, 200, 10), 200, *range(205, 400, 10)]
    assert "The steps go back from 290 to 205: a resume, so the later losses count." in resumed.remarks
    counted_on = read(tmp_path, ["step,loss", *first[:20], *(f"{s},{train(s + 190)}" for s in range(0, 200, 10))])
    assert counted_on.curve.last_step == 380 and "counted on" in counted_on.remarks[-1]
    assert np.allclose(counted_on.curve.train_losses, [train(s) for s in counted_on.curve.train_steps])
    two = read(
        tmp_path, ["step,loss", *(f"{s},{train(s) - 1}" for s in STEPS), *(f"{s},{train(s)}" for s in STEPS[:9])]
    )
    assert two.curve.train_steps.tolist() == list(STEPS[:9]) and two.curve.train_losses[0] == 8
    assert "several runs are in one log, and the last one is read" in two.remarks[-1]


def test_lines_in_no_order_are_sorted(tmp_path):
    lines = [f"{s},{train(s)}" for s in reversed(range(0, 2000, 10))]
    log = read(tmp_path, ["step,loss", *lines])
    assert log.curve.train_steps.tolist() == list(range(0, 2000, 10)) and "in no order" in log.remarks[-1]


def test_losses_that_are_no_numbers_are_left_out_and_a_run_that_ends_so_is_lost(tmp_path):
    within = read(tmp_path, ["step,loss", *(f"{s},{'nan' if s == 50 else train(s)}" for s in STEPS)])
    assert (
        50 not in within.curve.train_steps
        and within.lost_at is None
        and "Training losses that aren't finite numbers, and so are left out: 1." in within.remarks[-1]
    )
    lost = read(tmp_path, [f"iter {s}: loss {train(s) if s < 200 else 'nan'}, time 1ms" for s in STEPS])
    assert lost.curve.last_step == 190 and lost.lost_at == 200


def test_other_units_are_recognised_by_name(tmp_path):
    def of(column, value):
        return read(tmp_path, [f"step,{column}", *(f"{s},{value(train(s))}" for s in STEPS)], bytes_per_token=4.0)

    for column, value, said in (
        ("train_ppl", math.exp, "is a perplexity (by its name)"),
        ("loss_bits", lambda loss: loss / math.log(2), "in base 2 (by its name)"),
        ("bits_per_byte", lambda loss: loss / math.log(2) / 4, "at 4.00 bytes a token, which is assumed"),
    ):
        log = of(column, value)
        assert np.allclose(log.curve.train_losses, [train(s) for s in STEPS]) and said in log.remarks[-1]
        assert log.assumed == (column == "bits_per_byte")
        own = log.own_units["training"]
        assert math.isclose(own.of(train(100)), value(train(100)))


def test_bytes_a_token_are_worked_out_from_the_training_loss_beside(tmp_path):
    lines = [f"{s},{train(s)},{train(s) / math.log(2) / 4.5}" for s in STEPS]
    log = read(tmp_path, ["step,loss,val_bpb", *lines])
    assert "at 4.50 bytes a token, as the training loss beside it says" in log.remarks[-1] and not log.assumed
    assert np.allclose(log.curve.losses, log.curve.train_losses)


def test_other_units_are_recognised_by_value_only_where_it_is_certain(tmp_path):
    def of(rows, header="step,loss", **known):
        return read(tmp_path, [header, *rows], **known)

    perplexity = of([f"{s},{math.exp(train(s))}" for s in STEPS])  # 2,981 to 123
    assert "perplexity (it falls from 2,981 to 123.5)" in perplexity.remarks[-1]
    beside = of([f"{s},{train(s) / math.log(2)},{math.exp(train(s))}" for s in STEPS], "step,loss,ppl")
    assert "base 2 (the perplexity beside it is 2 to its power)" in beside.remarks[-1]
    assert np.allclose(beside.curve.train_losses, [train(s) for s in STEPS])
    start = of([f"{s},{train(s) / math.log(2)}" for s in STEPS], vocab_size=2981)  # ln(2,981) = 8
    assert "it starts at log2(2,981) = 11.54" in start.remarks[-1]
    assert not of([f"{s},{train(s)},{math.exp(train(s))}" for s in STEPS], "step,loss,ppl", vocab_size=2981).own_units
    with pytest.raises(UserError, match=r"a training loss of 1,\d+ is no cross-entropy of tokens"):
        of([f"{s},{1500 - s}" for s in STEPS])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("step,loss\n", "no losses in it"),
        ("step,accuracy\n1,0.5\n2,0.6\n", "no losses in it"),
        ("nothing that is a log\n", "no losses in it in any form that is known"),
        ("step,loss\n1,nan\n2,inf\n", "no loss in it is a finite number ('loss')"),
        ('"Relative Time (Process)","a - loss"\n1.5,9\n2.5,8\n', "'Relative Time (Process)' is a time"),
        ("seconds,train_loss\n10,9\n20,8\n", "'seconds' is a time"),
        ("step,loss\n1.5,9\n2.5,8\n3.5,7\n", "'step' isn't optimizer steps"),
        ("step,loss\n1718000000,9\n1718000010,8\n", "no count of optimizer steps but a time"),
        ('"Step","a - loss","b - loss"\n1,9,9\n2,8,8\n', "several runs side by side ('a', 'b')"),
        ("run_name,step,loss\na,1,9\nb,1,9\n", "several runs side by side ('a', 'b')"),
        ('{"loss": 9}\n{"loss": 8}\n', "it has no optimizer steps"),
        ('{"log_history": [{"lo', "no losses in it"),
        ("\0\1\2\3" * 999, "binary, no log"),
        ("MZ" + "\x90\0\3\0" * 99, "binary, no log"),
    ],
)
def test_what_is_no_log_gets_a_line_that_says_why(tmp_path, text, complaint):
    with pytest.raises(UserError) as told:
        read(tmp_path, text)
    assert complaint in str(told.value) and str(told.value).startswith(str(tmp_path)) and "\n" not in str(told.value)


def test_an_event_file_of_junk_and_a_missing_file_get_a_line(tmp_path):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"\x07junk" * 100)
    with pytest.raises(UserError, match=r"no losses in it|no event file"):
        read_log(str(tmp_path / "events.out.tfevents.1"))
    with pytest.raises(UserError, match="there is no such file or folder"):
        read_log(str(tmp_path / "nowhere"))


def test_a_utf16_log_as_powershell_writes_it(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("\n".join(shapes.nanogpt()), "utf-16")
    assert is_the_curve(read_log(str(path)))


def test_memory_stays_flat_with_the_length_of_a_log(tmp_path):
    def peak(steps):
        lines = (f"{s},{train(s / 100)}\n" for s in range(steps))
        path = tmp_path / "a.csv"
        with path.open("w") as file:
            file.write("step,loss\n")
            file.writelines(lines)
        log = read_log(str(path))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, log

    small, _ = peak(100_000)
    large, log = peak(600_000)  # 12 MB
    assert large - small < 6_000  # KiB
    assert 20_000 <= len(log.curve.train_steps) <= 40_001 and log.curve.last_step >= 599_990
    middle = np.searchsorted(log.curve.train_steps, 10_000)
    assert math.isclose(log.curve.train_losses[middle], train(100), abs_tol=1e-2)
