"""gpu-check without a GPU: its own logic, and every part at toy size on the CPU."""

import importlib
import json
import os
import sys
import time
import warnings

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import commands, measure, ranks, rows, runner, speed, syncs
from benchmarks.gpu.rows import Row, fact, failed, left_out, number
from benchmarks.gpu.runner import Outcome, Part
from benchmarks.gpu.setting import ROOT, Setting
from clm.training.trainer import ClmTrainer

# Parts that do what a GPU's might.
MISBEHAVING = """
import os, signal, subprocess, sys, time
from benchmarks.gpu.rows import Row, number

def good(setting):
    yield number("one", 1.0, at_least=1)

def raises(setting):
    yield number("one", 1.0, at_least=1)
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def dies(setting):
    yield Row("one", "found")
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory ends

def hangs(setting):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (setting.folder / "pid").write_text(str(child.pid))
    yield Row("one", "found")
    time.sleep(600)

def finds_nothing(setting):
    yield from ()
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A function: some of the misbehaving parts, with so many seconds each."""
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda *names, seconds=30.0: [Part(name, f"misbehaving:{name}", seconds) for name in names]


def run(parts, folder, budget=300.0):
    said = []
    return runner.run(parts, folder, budget, False, said.append), said


def test_a_number_is_held_against_its_targets():
    assert number("mfu", 0.41, at_least=0.4) == Row("mfu", 0.41, "", ">= 0.4", True)
    assert number("mfu", 0.39, at_least=0.4).verdict == "NOT"
    assert number("share", 1.06, at_least=0.5, at_most=1.05) == Row("share", 1.06, "", ">= 0.5, <= 1.05", False)
    assert number("waits", 0, at_most=0).verdict == "ok"
    assert number("loss", float("nan"), at_most=9).verdict == number("loss", float("nan"), at_least=0).verdict == "NOT"
    assert number("speed", 5, "tokens/s") == Row("speed", 5.0, "tokens/s", "", None)
    assert fact("works", False, "cc: not found", "works").verdict == "NOT"
    assert left_out("64 x eager", "out of memory").verdict == ""


def test_the_table_and_the_list_of_what_is_not():
    found = {"speed": [number("mfu", 0.5, at_least=0.4), number("8 x", 123456, "tokens/s")], "muon": [failed("a", "b")]}
    lines = [" ".join(line.split()) for line in rows.table(found).splitlines()]
    assert lines == ["speed", "ok mfu 0.5 (>= 0.4)", "8 x 123,456 tokens/s", "", "muon", "NOT a NOT: b"]
    assert rows.failures(found) == ["muon: a"]
    assert program.summary(found, 61).splitlines() == ["1 ok, 1 NOT, in 61 s", "  NOT: muon: a"]


def test_a_part_that_fails_keeps_its_rows_and_the_others_run(parts, tmp_path):
    outcomes, said = run(parts("raises", "dies", "finds_nothing", "good"), tmp_path)
    found = {name: [(row.name, row.verdict) for row in outcome.rows] for name, outcome in outcomes.items()}
    assert found == {
        "raises": [("one", "ok"), ("raises", "NOT")],
        "dies": [("one", ""), ("dies", "NOT")],
        "finds_nothing": [("finds_nothing", "NOT")],
        "good": [("one", "ok")],
    }
    why = "NOT: exit code 1: RuntimeError: CUDA error: an illegal memory access was encountered"
    assert outcomes["raises"].rows[1].figure == why
    assert outcomes["raises"].log.splitlines()[0].startswith("Traceback") and outcomes["good"].log == ""
    assert outcomes["dies"].rows[1].figure == "NOT: ended by SIGKILL"
    assert said[0] == "[1/4] raises: at most 210 s; 300 s left in all"  # the others have 30 each
    assert said[1].split() == f"NOT: raises: {why}".split()


def test_a_part_that_hangs_is_ended_with_all_that_it_started(parts, tmp_path):
    outcomes, _ = run(parts("hangs", "good", seconds=2.0), tmp_path, budget=12.0)
    assert [(row.name, row.verdict) for row in outcomes["hangs"].rows] == [("one", ""), ("hangs", "NOT")]
    assert outcomes["hangs"].rows[1].figure == "NOT: it took longer than 10 s"
    assert [row.verdict for row in outcomes["good"].rows] == ["ok"]
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Whether a process has ended, a second given to it."""
    for _ in range(20):
        try:
            state = (ROOT / f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # ended, and nobody has asked
            return True
        time.sleep(0.05)
    return False


def test_a_part_has_its_seconds_and_what_is_left_over(parts, tmp_path, monkeypatch):
    limits = []
    monkeypatch.setattr(runner.time, "monotonic", lambda: 0.0)  # no time passes
    monkeypatch.setattr(runner, "run_part", lambda part, folder, seconds, *_: limits.append(seconds) or Outcome([], 0))
    run(parts("good", "raises", "dies", seconds=10.0), tmp_path, budget=50.0)
    assert limits == [30.0, 40.0, 50.0]
    outcomes, _ = run(parts("good"), tmp_path, budget=0.0)
    assert outcomes["good"].rows == [failed("good", "no time was left for it")] and len(limits) == 3


def test_all_parts_have_their_seconds_within_ten_minutes():
    assert sum(part.seconds for part in program.PARTS) <= program.BUDGET < 600


def test_without_a_gpu_it_says_so_in_a_line(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert program.main() == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"gpu-check: torch {torch.__version__} sees no GPU here, so there is nothing to check\n"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder for results, in which the command has a card and one good part."""
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    monkeypatch.setattr(program, "PARTS", (Part("good", "", 1.0),))
    monkeypatch.setattr(program, "describe", lambda rehearsal: {"gpu": "NVIDIA H100 80GB HBM3", "cores": 16})
    monkeypatch.setattr(program, "run", lambda *_: {"good": Outcome([number("one", 1.0, at_least=1)], 2.04)})
    return tmp_path


def test_the_result_is_named_after_the_card(results, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert program.main() == 0
    assert json.loads((results / "gpu-nvidia-h100-80gb-hbm3.json").read_text()) == {
        "rehearsal": False,
        "machine": {"gpu": "NVIDIA H100 80GB HBM3", "cores": 16},
        "parts": {
            "good": {
                "seconds": 2.0,
                "rows": [{"name": "one", "figure": 1.0, "unit": "", "target": ">= 1", "ok": True}],
            }
        },
    }
    assert "ok  one" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--rehearse"], ["--only", "good"]])
def test_neither_a_rehearsal_nor_a_single_part_writes_a_result(results, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["gpu", *words])
    assert program.main() == 0 and list(results.iterdir()) == []


def test_something_that_is_not_ends_with_1(results, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(results / "here.json")])
    monkeypatch.setattr(program, "run", lambda *_: {"good": Outcome([failed("one", "no")], 2.0, "Traceback")})
    assert program.main() == 1
    assert json.loads((results / "here.json").read_text())["parts"]["good"]["log"] == "Traceback"


def test_waits_are_counted_in_micro_batches_and_beside_them(monkeypatch):
    def wait(*_):
        warnings.warn(syncs.WARNING, stacklevel=1)

    def step_ends(*_):
        wait()
        wait()
        warnings.warn("something else", stacklevel=1)

    monkeypatch.setattr(ClmTrainer, "training_step", wait)
    monkeypatch.setattr(ClmTrainer, "_maybe_log_save_evaluate", step_ends)

    def train():
        for _ in range(syncs.WARMUP + syncs.STEPS + 5):
            for _ in range(4):
                ClmTrainer.training_step(None)
            ClmTrainer._maybe_log_save_evaluate(None)

    counted = syncs.Syncs()
    counted.watch(train)
    # The first steps and the last are left out.
    assert (counted.micro_batches, counted.in_micro_batches) == (4 * syncs.STEPS,) * 2
    assert counted.elsewhere == 2 * syncs.STEPS
    assert sum(counted.places.values()) == 6 * syncs.STEPS
    assert ClmTrainer.training_step is wait  # all is as it was


def test_launches_are_those_of_the_runtime():
    events = [("cudaLaunchKernel", 3), ("cuLaunchKernelEx", 2), ("cudaMemcpyAsync", 1), ("aten::mm", 9)]
    assert sum(count for name, count in events if measure._starts(name)) == 6


def test_a_command_that_fails_is_known_by_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr("run_clm.main", lambda argv: print("error: out of memory: lower it", file=sys.stderr) or 74)
    with pytest.raises(commands.CommandFailed, match=r"^exit code 74: error: out of memory: lower it$") as caught:
        commands.train_here({}, tmp_path / "run")
    assert measure.out_of_memory(caught.value)
    assert commands.largest_difference([1.0, 2.0], [1.0, 2.5]) == 0.5
    assert commands.largest_difference([1.0], [1.0, 2.5]) == commands.largest_difference([], []) == float("inf")


def test_a_cell_that_went_on_with_smaller_micro_batches_is_no_figure_of_the_larger(tmp_path, monkeypatch):
    def halves(recipe, run):
        run.mkdir()
        log = [{"loss": 1.0, "tokens_per_second": 1000.0}]
        (run / "trainer_state.json").write_text(json.dumps({"train_batch_size": 2, "log_history": log}))
        return log

    monkeypatch.setattr(speed, "train_here", halves)
    setting, found = Setting(tmp_path, rehearsal=True), {}
    (row,) = speed._cell("4 x eager, own loss", setting, found, 4)
    assert row == left_out("4 x eager, own loss", "out of memory with 4, and the run went on with 2") and not found
    (row,) = speed._cell("2 x eager, own loss", setting, found, 2)
    assert row.figure == 1000.0 and list(found) == ["2 x eager, own loss"]
    for error, said in (
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), left_out("a", "out of memory")),
        (commands.CommandFailed("exit code 74: error: out of memory: lower it"), left_out("a", "out of memory")),
        (KeyError("defect"), failed("a", "KeyError: 'defect'")),
    ):
        assert speed._without("a", error) == said


def test_processes_are_held_against_one(tmp_path, monkeypatch):
    """With one card: AdamW and Muon by gloo on it, Muon by NCCL alone, and two by NCCL, which is to be refused."""
    apart = {"adamw_torch_fused": 2e-4, "muon": 2e-4}
    refused = [(2, "error: two processes were given the same GPU"), (-9, "stopped")]

    def ends(setting, optim, backend, count, shared):
        assert shared == (count > torch.cuda.device_count())
        return refused if (backend, count) == ("nccl", 2) else [(0, "done")] * count

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(ranks, "_recipe", lambda *_, **__: {})
    monkeypatch.setattr(ranks, "train_here", lambda recipe, run: [{"loss": 5.0}, {"loss": 4.0}])
    monkeypatch.setattr(ranks, "log_of", lambda run: [{"loss": 5.0}, {"loss": 4.0 + apart[run.name.split("-")[1]]}])
    monkeypatch.setattr(ranks, "_launch", ends)
    found = list(ranks.check(Setting(tmp_path)))
    assert [row.verdict for row in found] == ["NOT", "ok", "ok", "ok"]  # AdamW's are held to 1e-4, Muon's to 1e-3
    assert found[3].figure == "error: two processes were given the same GPU"
    refused[0] = (1, "Traceback")
    assert list(ranks.check(Setting(tmp_path)))[3].verdict == "NOT"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [row.name.split(":")[0] for row in ranks.check(Setting(tmp_path))][3] == "muon, 2 processes by nccl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture
def restored():
    """What a part sets in its own process comes back as it was in this one."""
    before, threads = dict(os.environ), torch.get_num_threads()
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_float32_matmul_precision("highest")
    AcceleratorState._reset_state(reset_partial_state=True)


# Rows that a part has at least, if all of it was gone through.
ROWS = {
    "machine": 5,
    "quickstart": 3,
    "large": 5,
    "speed": 6,
    "loss": 7,
    "muon": 9,
    "syncs": 3,
    "evaluation": 3,
    "determinism": 2,
    "deterministic": 5,
    "saving": 3,
    "plan": 5,
    "ranks": 1,
}


# Two processes beside this one take half a minute of a core.
REHEARSED = [
    pytest.param(part, marks=[pytest.mark.slow] * (part.name == "ranks"), id=part.name) for part in program.PARTS
]


@pytest.mark.parametrize("part", REHEARSED)
def test_a_part_goes_through_on_the_cpu(part, folder, restored, capsys):
    os.environ["OMP_NUM_THREADS"] = "1"
    module, function = part.check.split(":")
    setting = Setting(folder, rehearsal=True, in_process=True)
    found = list(getattr(importlib.import_module(module), function)(setting))
    assert [row for row in found if str(row.figure).startswith("NOT")] == []
    assert len(found) >= ROWS[part.name]
    facts = {row.name: row for row in found}
    # What holds at any size, on a CPU too.
    if part.name in ("determinism", "deterministic"):
        assert [row.figure for row in found[:2]] == [0.0, 0.0]
    if part.name == "ranks":
        assert found[0].ok
    if part.name == "large":
        assert facts["losses of steps 3 to 4 after a resume: difference"].ok


def test_a_resume_that_goes_wrong_would_be_seen(folder, restored, monkeypatch):
    """The check itself: a run with another seed isn't equal."""
    from benchmarks.gpu import determinism

    train, seeds = determinism.train_here, iter((1, 2, 1))
    monkeypatch.setattr(determinism, "train_here", lambda recipe, run: train({**recipe, "seed": next(seeds)}, run))
    twice, resumed = determinism._distances(Setting(folder, rehearsal=True), "seeds")
    assert twice > 0 and resumed == 0


@pytest.mark.slow
def test_the_whole_rehearsal_through_its_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--rehearse", "--output", str(tmp_path / "r.json")])
    assert program.main() == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rehearsal"] and list(report["parts"]) == [part.name for part in program.PARTS]
