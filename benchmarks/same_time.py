"""What is learned in the same time: other shapes, batches, rates and schedules for the quickstart.

    taskset -c 0 python -m benchmarks.same_time [--table] [NAME ...]

Every run trains on the embedded text and is scored on the same held-out text, as the quickstart. `QUARTER` is what the
quickstart is, for 200 of its 800 steps, and changes to it, each for as many steps as took about as long. `FULL` has
all of its time. Beside its loss each run has the seconds that its process was at work in training (user and system), on
one core: other processes disturb them less than the clock. Runs that are in benchmarks/results/same_time.json already
are passed over; `--table` only prints what is there.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from transformers import TrainerCallback

from benchmarks.learning import BEFORE, ROOT, trained
from benchmarks.machine import machine
from clm.files import write_json
from clm.training import optim

RESULT = ROOT / "benchmarks" / "results" / "same_time.json"
SEED = 42  # the quickstart's
forks = multiprocessing.get_context("fork")
NO_PAUSES = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
LINEAR = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "warmup_steps": 0.05}
TWO = {"n_layer": 2, "n_head": 2}
LEAN = TWO | LINEAR


def batch(sequences: int, rate: float) -> dict:
    return {
        "per_device_train_batch_size": sequences,
        "global_batch_size": sequences,
        "learning_rate": rate,
    }


@contextmanager
def groups(changed: Callable[[list[dict]], None]) -> Iterator[None]:
    """Let the optimizer's groups be changed: two of Muon's, the embeddings', the rest's."""

    class Changed(optim.MuonAndAdamW):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            changed(self.param_groups)

    with patch.object(optim, "MuonAndAdamW", Changed):
        yield


def embeddings_rate(share: float) -> Callable[[], AbstractContextManager]:
    """Embeddings learn at a share of the rate."""
    return lambda: groups(lambda of_model: of_model[2].update(lr=of_model[2]["lr"] * share))


QUARTER: dict[str, tuple[dict, Callable | None]] = {
    "as it is": ({"max_steps": 200}, None),
    "2 heads, linear to 0, 5 % warmup": (LINEAR | {"n_head": 2, "max_steps": 200}, None),
    "and 2 layers": (LEAN | {"max_steps": 270}, None),
    "2 layers, half the batch at 7e-3": (LEAN | batch(8, 7e-3) | {"max_steps": 430}, None),
    "2 layers, initializer_range 0.06": (LEAN | {"max_steps": 270, "initializer_range": 0.06}, None),
    "2 layers at 1.6e-2": (LEAN | {"max_steps": 270, "learning_rate": 1.6e-2}, None),
    "2 layers at 1.6e-2, embeddings at 6.4e-3": (
        LEAN | {"max_steps": 270, "learning_rate": 1.6e-2},
        embeddings_rate(0.4),
    ),
    "1 layer": (LEAN | {"n_layer": 1, "max_steps": 450}, None),
    "1 layer at 1.6e-2": (LEAN | {"n_layer": 1, "max_steps": 450, "learning_rate": 1.6e-2}, None),
    "1 layer at 2.4e-2": (LEAN | {"n_layer": 1, "max_steps": 450, "learning_rate": 2.4e-2}, None),
}
FULL: dict[str, tuple[dict, Callable | None]] = {
    "all: as it is": ({}, None),
    "all: 1 layer": (LEAN | {"n_layer": 1, "max_steps": 1600}, None),
    "all: 2 layers at 1.2e-2": (LEAN | {"max_steps": 1100, "learning_rate": 1.2e-2}, None),
    "all: 2 layers at 1.6e-2": (LEAN | {"max_steps": 1100, "learning_rate": 1.6e-2}, None),
    "all: 2 layers at 1.6e-2, weight decay 0.3": (
        LEAN | {"max_steps": 1060, "learning_rate": 1.6e-2, "weight_decay": 0.3},
        None,
    ),
}
VARIANTS = QUARTER | FULL


def train(name: str, folder: Path) -> dict:
    """One training: its seconds at work, and its validation loss."""
    changed, patched = VARIANTS[name]
    keys = BEFORE | NO_PAUSES | {"seed": SEED} | changed
    clock = Clock()
    with (patched or nullcontext)():
        loss = trained(keys, folder, [clock])
    return {"steps": keys["max_steps"], "seconds": round(clock.seconds, 1), "loss": round(loss, 4)}


class Clock(TrainerCallback):
    """Seconds that this process is at work, from the first step to the last."""

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.seconds = -time.process_time()

    def on_train_end(self, *_: object, **__: object) -> None:
        self.seconds += time.process_time()


def known() -> dict:
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"machine": machine(), "runs": []}


def run(name: str, folder: Path) -> None:
    """One training in a process of its own, forked, so that it needn't import all this again."""
    receives, sends = forks.Pipe(duplex=False)
    process = forks.Process(target=lambda: sends.send(train(name, folder)))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name} failed")
    report = known()
    report["runs"].append({"name": name, **receives.recv()})
    write_json(RESULT, report)


def table() -> None:
    for each in sorted(known()["runs"], key=lambda each: list(VARIANTS).index(each["name"])):
        print("{name:<44} {steps:>5} steps  {seconds:6.1f} s  {loss:.4f}".format(**each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of what is changed; by default all")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(".cache/learning"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    done = {each["name"] for each in known()["runs"]}
    for name in VARIANTS:
        if name in (args.names or VARIANTS) and name not in done and not args.table:
            run(name, args.folder)
    table()


if __name__ == "__main__":
    main()
