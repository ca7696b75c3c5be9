"""What is learned from the same tokens: optimizers, rates, schedules, betas and weight decay, three seeds each.

    python -m benchmarks.learning [--seeds N] [--table] [NAME ...]

Every run trains the quickstart's model on the embedded text (3 layers x 128, 2,048 ids, blocks of 128; STEPS
of 2,048 tokens, about one epoch), with what its name says changed, and is scored on the same held-out text. Runs that
are in benchmarks/results/learning.json already are passed over; `--table` only prints what is there. A seed is that of
the weights and of the order: those of the same seed differ by nothing but the change. `benchmarks/same_time.py` asks
what is learned in the same time.
"""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.optim import Muon
from transformers import TrainerCallback

from benchmarks.machine import machine
from clm.config.recipe import load
from clm.data.blocks import Blocks
from clm.data.order import EpochOrder
from clm.data.prepare import open_text, prepare
from clm.evaluation.scoring import score_store
from clm.evaluation.validation import evaluate
from clm.files import write_json
from clm.launch.start import start
from clm.rollback import Rollback
from clm.training import optim
from clm.training.build import make_trainer
from clm.training.callbacks.progress import TrainingProgress
from clm.training.text import RunText

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "learning.json"
QUICKSTART = json.loads((ROOT / "recipes" / "quickstart.json").read_text("utf-8"))
ADAMW_RATE, MUON_RATE, STEPS = 3e-3, 1.2e-2, 400
forks = multiprocessing.get_context("fork")
# What the quickstart was when these runs were made: they stay comparable if it changes.
BEFORE = QUICKSTART | {
    "n_layer": 3,
    "n_head": 4,
    "optim_args": None,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": 0.1,
    "weight_decay": 0.1,
    "max_steps": 800,
}
BASE = BEFORE | {
    "optim": "muon",
    "learning_rate": MUON_RATE,
    "bf16": True,
    "max_steps": STEPS,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
}
ADAMW = {"optim": "adamw_torch_fused", "learning_rate": ADAMW_RATE}
HALF_STEPS = 100  # of half a batch, in the batch-size warmup


class UndecayedEmbeddings(optim.MuonAndAdamW):
    """Weight decay on the blocks' matrices only."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.param_groups[2]["weight_decay"] = 0.0


@contextmanager
def small_batches_first() -> Iterator[None]:
    """Half a batch in each of the first HALF_STEPS steps; as many tokens in all."""
    whole, length = EpochOrder.__iter__, EpochOrder.__len__

    def batches(order: EpochOrder) -> Iterator[np.ndarray]:
        for number, batch in enumerate(whole(order)):
            halves = order.epoch == 0 and number < HALF_STEPS // 2
            yield from np.split(batch, 2) if halves else [batch]

    def count(order: EpochOrder) -> int:
        return length(order) + (HALF_STEPS // 2 if order.epoch == 0 else 0)

    with patch.object(EpochOrder, "__iter__", batches), patch.object(EpochOrder, "__len__", count):
        yield


class Average(TrainerCallback):
    """The mean of the weights over the last share of the steps, put into the model at the end."""

    def __init__(self, share: float) -> None:
        self.share, self.count, self.mean = share, 0, {}

    def on_step_end(self, args: object, state: object, control: object, model: torch.nn.Module, **_: object) -> None:
        if state.global_step > state.max_steps * (1 - self.share) and state.global_step % 5 == 0:
            self.count += 1
            for name, weight in model.named_parameters():
                mean = self.mean.setdefault(name, torch.zeros_like(weight))
                mean.lerp_(weight.detach(), 1 / self.count)

    def on_train_end(self, args: object, state: object, control: object, model: torch.nn.Module, **_: object) -> None:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(self.mean[name])


APART = "query, key, value apart"  # as it is since; the others have them as one matrix
POSITIONS = "positions at a tenth of the rate"  # and these apart
MORE_EPOCHS = {"validation_split_percentage": 60}  # the same steps are then two and a half epochs of less text
VARIANTS: dict[str, tuple[dict, Callable | None]] = {
    **{f"adamw, rate {rate:g}": (ADAMW | {"learning_rate": rate}, None) for rate in (1.5e-3, 3e-3, 6e-3)},
    **{f"muon, rate {rate:g}": ({"learning_rate": rate}, None) for rate in (3e-3, 6e-3, 1.2e-2, 2.4e-2)},
    "decay to 0": ({"lr_scheduler_kwargs": {"min_lr_rate": 0.0}}, None),
    "linear to 0": ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None}, None),
    "constant after warmup": ({"lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": None}, None),
    "no warmup": ({"warmup_steps": 0}, None),
    "beta2 0.95": ({"adam_beta2": 0.95}, None),
    "weight decay 0": ({"weight_decay": 0.0}, None),
    "embeddings without decay": ({}, lambda: patch.object(optim, "MuonAndAdamW", UndecayedEmbeddings)),
    APART: ({}, None),
    POSITIONS: ({"optim_args": "positions=0.1"}, None),
    "batch-size warmup": ({"max_steps": STEPS + HALF_STEPS // 2}, small_batches_first),
    "mean of the last 10 %": ({"callback": 0.1}, None),
    "2.5 epochs": (MORE_EPOCHS | {"shift_blocks": False}, None),  # the first epoch's blocks in all of them
    "2.5 epochs, shifted blocks": (MORE_EPOCHS, None),
}


def train(name: str, seed: int, folder: Path) -> float:
    """One training; its validation loss."""
    changed, patched = VARIANTS[name]
    keys = BASE | {"seed": seed} | changed
    share = keys.pop("callback", None)
    muon = optim.PiecewiseMuon if name in (APART, POSITIONS) else Muon
    with patch.object(optim, "PiecewiseMuon", muon), (patched or nullcontext)():
        return trained(keys, folder, [Average(share)] if share else [])


def trained(keys: dict, folder: Path, callbacks: Sequence[TrainerCallback] = ()) -> float:
    """The validation loss of a recipe with these keys, trained and scored in this process.

    Args:
        folder: for the prepared text.
        callbacks: of the training.
    """
    file = folder / f"recipe-{os.getpid()}.json"
    write_json(file, keys | {"cache_dir": str(folder), "output_dir": str(folder / "run")})
    recipe = load(file)
    file.unlink()
    with Rollback() as rollback:
        # The split is by a fixed seed, whatever the run's.
        data = prepare(recipe.data, open_text(recipe.data, 42), False, lambda _: None, rollback)
        with redirect_stdout(StringIO()):
            args, _ = start(recipe)
        blocks = Blocks(data.train, recipe.data.block_size, shifted=recipe.data.shift_blocks)
        identity = {"text": "", "tokenizer": "", "total_steps": args.max_steps}
        text = RunText(data, blocks, args.max_steps, identity)
        evaluated = partial(evaluate, text=text, args=args)
        trainer = make_trainer(recipe, args, text, evaluated, lambda _: None)
        trainer.remove_callback(TrainingProgress)
        for callback in callbacks:
            trainer.add_callback(callback)
        trainer.train()
        return score_store(trainer.model, data.validation, blocks.block_size, 32).metrics()["eval_loss"]


def known() -> dict:
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"machine": machine(), "runs": []}


def run(name: str, seed: int, folder: Path) -> None:
    """One training in a process of its own, forked, so that it needn't import all this again."""
    receives, sends = forks.Pipe(duplex=False)
    process = forks.Process(target=lambda: sends.send(train(name, seed, folder)))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name}, seed {seed} failed")
    report = known()
    report["runs"].append({"name": name, "seed": seed, "loss": round(receives.recv(), 4)})
    write_json(RESULT, report)


def table() -> None:
    losses: dict[str, dict[int, float]] = {}
    for each in known()["runs"]:
        losses.setdefault(each["name"], {})[each["seed"]] = each["loss"]
    for name, of_seed in losses.items():
        values = list(of_seed.values())
        print(
            f"{name:<36} {statistics.mean(values):.4f}  ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of what is changed; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(".cache/learning"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    done = {(each["name"], each["seed"]) for each in known()["runs"]}
    wanted = [name for name in VARIANTS if name in (args.names or VARIANTS)]
    for seed in range(1, args.seeds + 1):
        for name in wanted:
            if (name, seed) not in done and not args.table:
                run(name, seed, args.folder)
    table()


if __name__ == "__main__":
    main()
