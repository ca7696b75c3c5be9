"""How soon a validation loss is reached: the standard procedure, its learning rate swept, and this project.

    python -m benchmarks.time_to_loss [--text FILE] [--standard_steps N] [--rounds N] [--only sweep|rounds]

Both train a GPT-2 of 4 layers x 256, 8,000 ids, on blocks of 256, 4,096 tokens a step, without dropout, each run
with a whole schedule of its own and in a process of its own. `sweep`: the standard procedure at each of its rates;
then this project at each of its rates, for fewer and fewer steps while the loss stays at or below the standard's
best. `rounds`: the two winners alternated, a seed a round. Seconds are of training alone; the loss is scored by the
same code on the same text. Every run is added to benchmarks/results/time_to_loss.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
import transformers
from transformers import GPT2Config, Trainer, TrainingArguments, set_seed

from benchmarks.machine import machine
from clm.config.recipe import Recipe, load
from clm.data.blocks import Blocks
from clm.data.prepare import Prepared, open_text, prepare
from clm.evaluation.scoring import score_store
from clm.evaluation.validation import evaluate
from clm.files import write_json
from clm.launch.start import start
from clm.rollback import Rollback
from clm.training.build import make_trainer
from clm.training.text import RunText

RESULT = Path(__file__).resolve().parent / "results" / "time_to_loss.json"
STANDARD_RATES = (1.4e-3, 2e-3, 2.8e-3)  # 5e-4 to 4e-3 before: results/time_to_loss-before.json
RATES = (1e-2,)
PIECE, HELD_OUT = 2**16, 200  # characters; every so-manieth piece is validation text
BATCH = 16
SAME = ("way", "rate", "steps")
RECIPE = {
    "vocab_size": 8000,
    "tokenizer_train_bytes": 20_000_000,
    "block_size": 256,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 256,
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    "per_device_train_batch_size": BATCH,
    "optim": "muon",
    "optim_args": "momentum=0.85,ns_steps=4,embeddings=1.4,positions=0.1,vectors=0.1",
    "adam_beta1": 0.4,
    "adam_beta2": 0.99,
    "adam_epsilon": 1e-5,
    "max_grad_norm": 4.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "logging_steps": 25,
}


def cut(text: Path, folder: Path) -> dict[str, str]:
    """Train and validation files of a text, cut at line ends; the recipe's keys for them."""
    files = {"train": folder / f"{text.stem}-train.txt", "validation": folder / f"{text.stem}-validation.txt"}
    if not all(file.exists() for file in files.values()):
        folder.mkdir(parents=True, exist_ok=True)
        parts = {name: [] for name in files}
        with text.open(encoding="utf-8", newline="") as lines:
            for number, piece in enumerate(iter(lambda: "".join(lines.readlines(PIECE)), "")):
                parts["train" if number % HELD_OUT else "validation"].append(piece)
        for name, file in files.items():
            file.write_text("".join(parts[name]), "utf-8", newline="")
    return {f"{name}_file": str(file) for name, file in files.items()}


def recipe_keys(text: Path | None, folder: Path) -> dict:
    source = cut(text, folder) if text else {"dataset_name": "python-docs", "validation_split_percentage": 3}
    return {**RECIPE, **source, "cache_dir": str(folder), "output_dir": str(folder / "run")}


def standard(data: Prepared, keys: dict, spec: dict) -> tuple[torch.nn.Module, float]:
    """What a user of the stock Trainer gets: its own precision, loss and AdamW."""
    set_seed(spec["seed"])
    shape = {key: keys[key] for key in ("n_layer", "n_head", "n_embd", "resid_pdrop", "embd_pdrop", "attn_pdrop")}
    config = GPT2Config(vocab_size=len(data.tokenizer), n_positions=keys["block_size"], **shape)
    args = TrainingArguments(
        output_dir=keys["output_dir"],
        per_device_train_batch_size=BATCH,
        learning_rate=spec["rate"],
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.1,
        adam_beta2=0.95,
        max_steps=spec["steps"],
        seed=spec["seed"],
        save_strategy="no",
        logging_steps=25,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    rows = _Rows(Blocks(data.train, keys["block_size"]))
    trainer = Trainer(transformers.GPT2LMHeadModel(config), args, train_dataset=rows)
    return _timed(trainer)


class _Rows(torch.utils.data.Dataset):
    """Rows of ids that are their own labels, as the stock model wants them."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        ids = self.blocks[row]["input_ids"]
        return {"input_ids": ids, "labels": ids}


def ours(data: Prepared, keys: dict, spec: dict) -> tuple[torch.nn.Module, float]:
    """This project, as run_clm.py trains."""
    keys = {**keys, "learning_rate": spec["rate"], "max_steps": spec["steps"], "seed": spec["seed"]}
    recipe = _recipe(keys | spec.get("keys", {}))
    args, _ = start(recipe)
    blocks = Blocks(data.train, recipe.data.block_size, recipe.data.sampling)
    identity = {"text": "", "tokenizer": "", "total_steps": args.max_steps}
    text = RunText(data, blocks, args.max_steps, identity)
    evaluated = partial(evaluate, text=text, args=args)
    return _timed(make_trainer(recipe, args, text, evaluated, lambda _: None))


def _timed(trainer: Trainer) -> tuple[torch.nn.Module, float]:
    started = perf_counter()
    trainer.train()
    seconds = perf_counter() - started
    return trainer.accelerator.unwrap_model(trainer.model), seconds


def _recipe(keys: dict) -> Recipe:
    file = Path(keys["cache_dir"]) / f"recipe-{os.getpid()}.json"
    write_json(file, keys)
    recipe = load(file)
    file.unlink()
    return recipe


def prepared(keys: dict) -> Prepared:
    recipe = _recipe(keys)
    with Rollback() as rollback:
        return prepare(recipe.data, open_text(recipe.data, 42), False, lambda _: None, rollback)


def child(keys: dict, spec: dict) -> None:
    """One training; the last line printed is its seconds and its validation loss."""
    data = prepared(keys)
    model, seconds = {"standard": standard, "ours": ours}[spec["way"]](data, keys, spec)
    loss = score_store(model, data.validation, keys["block_size"], BATCH).metrics()["eval_loss"]
    print(json.dumps({**spec, "seconds": round(seconds, 2), "loss": round(loss, 4)}), flush=True)


def train(keys: dict, way: str, rate: float, steps: int, seed: int, stage: str) -> dict:
    """One training in a process of its own, shown and added to the results."""
    spec = {"way": way, "rate": rate, "steps": steps, "seed": seed, "stage": stage}
    command = [sys.executable, "-m", "benchmarks.time_to_loss", "--child", json.dumps([keys, spec])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    run = json.loads(done.stdout.splitlines()[-1])
    report = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"machine": machine(), "runs": []}
    report["runs"].append(run)
    write_json(RESULT, report)
    print(
        "{way:<9} rate {rate:g} steps {steps:>4} seed {seed}: {seconds:7.1f} s, loss {loss:.4f}".format(**run),
        flush=True,
    )
    return run


def sweep(keys: dict, standard_steps: int) -> None:
    """The standard's best rate; then, at each of ours, the fewest steps that get there, a thirtieth fewer each time."""
    target = min(train(keys, "standard", rate, standard_steps, 0, "sweep")["loss"] for rate in STANDARD_RATES)
    for rate in RATES:
        steps = standard_steps // 3
        while train(keys, "ours", rate, steps, 0, "sweep")["loss"] <= target:
            steps = steps * 29 // 30


def winners(standard_steps: int) -> tuple[dict, dict]:
    """The best run of the standard's sweep, and the shortest of ours that was no worse."""
    runs = [run for run in json.loads(RESULT.read_text("utf-8"))["runs"] if run["stage"] == "sweep"]
    theirs = [run for run in runs if run["way"] == "standard" and run["steps"] == standard_steps]
    best = min(theirs, key=lambda run: run["loss"])
    enough = [run for run in runs if run["way"] == "ours" and run["loss"] <= best["loss"]]
    return best, min(enough, key=lambda run: (run["steps"], run["loss"]))


def rounds(keys: dict, pair: tuple[dict, dict], seeds: range) -> None:
    for seed in seeds:
        for run in pair if seed % 2 else pair[::-1]:
            train(keys, run["way"], run["rate"], run["steps"], seed, "round")


def table(pair: tuple[dict, dict]) -> None:
    """Medians over the rounds of these two, with the lowest and the highest."""
    runs = [run for run in json.loads(RESULT.read_text("utf-8"))["runs"] if run["stage"] == "round"]
    ways = [{run["seed"]: run for run in runs if all(run[key] == way[key] for key in SAME)} for way in pair]
    for way in ways:
        name, rate, steps = (next(iter(way.values()))[key] for key in SAME)
        seconds, losses = ([run[key] for run in way.values()] for key in ("seconds", "loss"))
        print(
            f"{name:<9} {steps:>4} steps at {rate:g}: {statistics.median(seconds):6.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f}), loss {statistics.mean(losses):.4f} "
            f"({min(losses):.4f} to {max(losses):.4f})"
        )
    shares = [ways[1][seed]["seconds"] / ways[0][seed]["seconds"] for seed in sorted(ways[0].keys() & ways[1].keys())]
    middle, low, high = statistics.median(shares), min(shares), max(shares)
    print(f"ours / standard, {len(shares)} rounds: {middle:.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text file; by default Python's own documentation")
    parser.add_argument("--standard_steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=1)
    parser.add_argument("--only", choices=("sweep", "rounds"))
    parser.add_argument("--folder", type=Path, default=Path(".cache/time_to_loss"), help="for what is prepared")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*json.loads(args.child))
        return
    keys = recipe_keys(args.text, args.folder)
    prepared(keys)
    if args.only != "rounds":
        sweep(keys, args.standard_steps)
    if args.only != "sweep":
        pair = winners(args.standard_steps)
        rounds(keys, pair, range(args.first_seed, args.first_seed + args.rounds))
        table(pair)


if __name__ == "__main__":
    main()
