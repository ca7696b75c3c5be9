"""The texts, and one training by the project's own way from a recipe to a Trainer."""

import os
import random
import re
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from time import process_time
from typing import Any

import torch

from benchmarks.regime.parts import Mean, patched
from benchmarks.regime.rows import Size, read
from clm.config.recipe import load
from clm.data.blocks import Blocks
from clm.data.prepare import open_text, prepare
from clm.evaluation.validation import evaluate
from clm.files import write_json, write_text
from clm.launch.start import start
from clm.rollback import Rollback
from clm.training.build import make_trainer
from clm.training.callbacks.energy import EnergyMeter
from clm.training.callbacks.progress import TrainingProgress
from clm.training.callbacks.samples import SampleLog
from clm.training.schedule import weight_decay
from clm.training.text import RunText

ARTICLE = re.compile(r"(?m)^(?= = [^=\n].* = \n)")
HELD_OUT, TEXT_SEED = 50_000, 1  # bytes of whole articles
BYTES_A_TOKEN = 2.15


def write_texts(wikitext: Path, folder: Path, size: Size) -> dict[str, str]:
    """Whole articles in an order of their own: the first are held out, the next are the training text."""
    articles = [each for each in ARTICLE.split(wikitext.read_text("utf-8")) if each.strip()]
    random.Random(TEXT_SEED).shuffle(articles)
    files = {}
    for name, wanted in (("validation_file", HELD_OUT), ("train_file", size.tokens * BYTES_A_TOKEN)):
        text = ""
        while len(text.encode()) < wanted:
            text += articles.pop(0)
        text = text if name == "validation_file" else text.encode()[: round(wanted)].decode(errors="ignore")
        files[name] = str(folder / f"{name}-{size.width}-{size.tokens}.txt")
        write_text(Path(files[name]), text)
    return files


def train(name: str, size: Size, seed: int, files: dict[str, str], folder: Path) -> dict[str, Any]:
    """One training: its validation losses by epoch, the last and the lowest, and its last training loss."""
    began = process_time()
    row = read(name, size)
    keys = row.keys | files | {"cache_dir": str(folder), "output_dir": str(folder / "run"), "seed": seed}
    file = folder / f"recipe-{os.getpid()}.json"
    write_json(file, {key: value for key, value in keys.items() if value is not None})
    recipe = load(file)
    file.unlink()
    mean = None
    if "mean of last" in row.parts or "ema" in row.parts:
        mean = Mean(row.parts.get("mean of last"), row.parts.get("ema"))
    with Rollback() as rollback, patched(row.parts):
        data = prepare(recipe.data, open_text(recipe.data, 42), False, lambda _: None, rollback)
        with redirect_stdout(StringIO()):
            args, _ = start(recipe)
        blocks = Blocks(data.train, recipe.data.block_size, shifted=recipe.data.shift_blocks)
        args.weight_decay = weight_decay(recipe, len(blocks) / args.per_device_train_batch_size)
        batches = -(-len(blocks) // args.per_device_train_batch_size)
        identity = {"text": "", "tokenizer": "", "total_steps": batches * int(args.num_train_epochs)}
        text = RunText(data, blocks, identity["total_steps"], identity)

        def scored(model: torch.nn.Module) -> dict[str, float]:
            with mean.inside(model) if mean else nullcontext():
                return evaluate(model, text=text, args=args)

        trainer = make_trainer(recipe, args, text, scored, lambda _: None)
        for callback in (TrainingProgress, SampleLog, EnergyMeter):
            trainer.remove_callback(callback)
        if mean:
            trainer.add_callback(mean)
        with redirect_stdout(StringIO()):
            trainer.train()
    history = trainer.state.log_history
    losses = [(round(each["epoch"], 2), round(each["eval_loss"], 4)) for each in history if "eval_loss" in each]
    best = min(losses, key=lambda each: each[1])
    return {
        "end": losses[-1][1],
        "best": best[1],
        "best_epoch": best[0],
        "train": round([each["loss"] for each in history if "loss" in each][-1], 3),
        "curve": [loss for _, loss in losses],
        "steps": trainer.state.global_step,
        "tokens": data.train.tokens,
        "seconds": round(process_time() - began, 1),  # of all cores, so that a pause costs none
    }
