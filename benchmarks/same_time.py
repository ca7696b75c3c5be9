"""What is learned in the same time: other shapes, batches, rates and schedules for the quickstart as it was.

    taskset -c 0 python -m benchmarks.same_time [NAME ...] [--seeds SEED ...] [--table]

Every run trains on the embedded text and is scored on the same held-out text, as the quickstart. `QUARTER` is what the
quickstart was (benchmarks/learning.py: BEFORE), for 200 of its 800 steps, and changes to it, each for as many steps as
took about as long. `FULL` has all of its time, `STEPS` all of its steps; the quickstart is FULL's last row since.
Beside its loss each run has the seconds that its process was at work in training (user and system), on one core: other
processes disturb them less than the clock. A seed is that of the weights and the order. Runs that are in
benchmarks/results/same_time.json already are passed over, those in another arithmetic (benchmarks/regime/results.py)
are others; `--table` only prints what is there.
"""

import argparse
import multiprocessing
import time
from pathlib import Path

from transformers import TrainerCallback

from benchmarks.learning import BEFORE, ROOT, trained
from benchmarks.regime.results import Results, arithmetic, arithmetic_of

RESULTS = Results(ROOT / "benchmarks" / "results" / "same_time.json")
SEED = 42  # the quickstart's
forks = multiprocessing.get_context("fork")
NO_PAUSES = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
LINEAR = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "warmup_steps": 0.05}
TWO = {"n_layer": 2, "n_head": 2}
LEAN = TWO | LINEAR
DECAY, EMBEDDINGS = {"weight_decay": 0.3}, {"optim_args": "embeddings=2"}


def batch(sequences: int, rate: float) -> dict:
    return {
        "per_device_train_batch_size": sequences,
        "global_batch_size": sequences,
        "learning_rate": rate,
    }


QUARTER: dict[str, dict] = {
    "as it is": {"max_steps": 200},
    "2 heads, linear to 0, 5 % warmup": LINEAR | {"n_head": 2, "max_steps": 200},
    "and 2 layers": LEAN | {"max_steps": 270},
    "2 layers, half the batch at 7e-3": LEAN | batch(8, 7e-3) | {"max_steps": 430},
    "2 layers, initializer_range 0.06": LEAN | {"max_steps": 270, "initializer_range": 0.06},
    "2 layers at 1.6e-2": LEAN | {"max_steps": 270, "learning_rate": 1.6e-2},
    "2 layers at 1.6e-2, embeddings at 6.4e-3": LEAN
    | {"max_steps": 270, "learning_rate": 1.6e-2, "optim_args": "embeddings=0.4"},
    "1 layer": LEAN | {"n_layer": 1, "max_steps": 450},
    "1 layer at 1.6e-2": LEAN | {"n_layer": 1, "max_steps": 450, "learning_rate": 1.6e-2},
    "1 layer at 2.4e-2": LEAN | {"n_layer": 1, "max_steps": 450, "learning_rate": 2.4e-2},
}
FULL: dict[str, dict] = {
    "all: as it is": {},
    "all: 1 layer": LEAN | {"n_layer": 1, "max_steps": 1600},
    "all: 2 layers at 1.2e-2": LEAN | {"max_steps": 1100, "learning_rate": 1.2e-2},
    "all: 2 layers at 1.6e-2": LEAN | {"max_steps": 1100, "learning_rate": 1.6e-2},
    "all: 2 layers at 1.6e-2, weight decay 0.3": LEAN | {"max_steps": 1060, "learning_rate": 1.6e-2} | DECAY,
    "all: 2 layers, weight decay 0.3, embeddings at 2e-2": LEAN | {"max_steps": 1100} | DECAY | EMBEDDINGS,
}
STEPS: dict[str, dict] = {
    "800: linear to 0, 5 % warmup": LINEAR,
    "800: and embeddings at 2e-2": LINEAR | EMBEDDINGS,
    "800: and weight decay 0.3": LINEAR | DECAY,
    "800: and dropout 0.05": LINEAR | {"resid_pdrop": 0.05, "embd_pdrop": 0.05},
    "800: and weight decay 0.3, embeddings at 2e-2": LINEAR | DECAY | EMBEDDINGS,
}
VARIANTS = QUARTER | FULL | STEPS


def train(name: str, seed: int, folder: Path) -> dict:
    """One training: its seconds at work, and its validation loss."""
    keys = BEFORE | NO_PAUSES | VARIANTS[name] | {"seed": seed}
    clock = Clock()
    loss = trained(keys, folder, [clock])
    return {"steps": keys["max_steps"], "seconds": round(clock.seconds, 1), "loss": round(loss, 4)}


class Clock(TrainerCallback):
    """Seconds that this process is at work, from the first step to the last."""

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.seconds = -time.process_time()

    def on_train_end(self, *_: object, **__: object) -> None:
        self.seconds += time.process_time()


def run(name: str, seed: int, folder: Path) -> None:
    """One training in a process of its own, forked, so that it needn't import all this again."""
    receives, sends = forks.Pipe(duplex=False)
    process = forks.Process(target=lambda: sends.send(train(name, seed, folder)))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name}, seed {seed} failed")
    RESULTS.keep({"name": name, "seed": seed, **receives.recv()})


def table() -> None:
    for each in sorted(RESULTS.known()["runs"], key=lambda each: (list(VARIANTS).index(each["name"]), each["seed"])):
        kind = arithmetic_of(each)
        print("{name:<52} {seed:>3} {steps:>5} steps  {seconds:6.1f} s  {loss:.4f} ".format(**each) + kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of what is changed; by default all")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", nargs="+", type=int, default=[SEED])
    parser.add_argument("--folder", type=Path, default=Path(".cache/learning"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    done = {(each["name"], each["seed"], arithmetic_of(each)) for each in RESULTS.known()["runs"]}
    for name, seed in ((name, seed) for seed in args.seeds for name in args.names or VARIANTS):
        if (name, seed, arithmetic()) not in done and not args.table:
            run(name, seed, args.folder)
    table()


if __name__ == "__main__":
    main()
