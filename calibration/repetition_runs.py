"""Makes the small real runs of many epochs whose curves are in clm/explain/references/repeated_runs.json.

    python -m calibration.repetition_runs --wikitext FILE [NAME ...]

The project's own command trains them, all in this process: on so little text a run is shorter than its start. The
published curves are of the first TRAIN_BYTES of WikiText-103's validation split as a text file, validated on its last
VALIDATION_BYTES. A run that is in the file already is passed over.
"""

import argparse
import contextlib
import json
import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from calibration.curves import keep
from clm.config.fields import MUON
from clm.files import read_json

CURVES = Path(__file__).resolve().parent.parent / "clm" / "explain" / "references" / "repeated_runs.json"
WORK = Path("runs", "repetition")
TRAIN_BYTES, VALIDATION_BYTES = 44_000, 20_000
EVALUATIONS = 16
ADAMW = "adamw_torch_fused"


@dataclass(frozen=True)
class Repeated:
    """One run over the same little text: epochs, weight decay, dropout, layers, width, optimizer and peak rate."""

    epochs: int
    weight_decay: float = 0.1
    dropout: float = 0.0
    layers: int = 2
    width: int = 64
    optim: str = MUON
    rate: float = 1e-2
    text_bytes: int = TRAIN_BYTES

    def recipe(self, train: Path, validation: Path) -> dict:
        """As run_clm.py reads it, but for what depends on the steps of an epoch."""
        return {
            "train_file": str(train),
            "validation_file": str(validation),
            "document_separator": "article",
            "vocab_size": 512,
            "block_size": 64,
            "n_layer": self.layers,
            "n_head": self.width // 32,
            "n_embd": self.width,
            "resid_pdrop": self.dropout,
            "embd_pdrop": self.dropout,
            "attn_pdrop": self.dropout,
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 32,
            "gradient_accumulation_steps": 1,
            "optim": self.optim,
            "learning_rate": self.rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.05,
            "weight_decay": self.weight_decay,
            "adam_beta2": 0.99,
            "num_train_epochs": self.epochs,
            "eval_steps": 1 / EVALUATIONS,
            "logging_steps": 0.02,
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "bf16": False,
            "use_cpu": True,
            "seed": 42,
        }


RUNS = {
    "r-2x64-32": Repeated(32),
    "r-2x64-32-wd1.6": Repeated(32, 1.6),
    "r-2x64-32-dropout": Repeated(32, 0.1, 0.2),
    "r-2x64-8": Repeated(8),
    "r-1x32-64": Repeated(64, layers=1, width=32),
    "r-2x64-16-wd1.6-dropout": Repeated(16, 1.6, 0.2),
    "r-2x64-16-wd0.4": Repeated(16, 0.4),
    "r-1x32-32-wd1.6": Repeated(32, 1.6, layers=1, width=32),
    "r-2x64-4": Repeated(4),
    "r-2x64-4-wd1.6": Repeated(4, 1.6),
    "r-2x64-1": Repeated(1),
    "r-2x64-16-adamw": Repeated(16, 0.1, optim=ADAMW, rate=3e-3),
    "r-2x64-16-adamw-wd1.6": Repeated(16, 1.6, optim=ADAMW, rate=3e-3),
    "r-1x32-16": Repeated(16, layers=1, width=32),
    "r-1x32-32-dropout": Repeated(32, 0.1, 0.2, layers=1, width=32),
    "r-2x64-32-half": Repeated(32, text_bytes=24_000),
    "r-2x64-2": Repeated(2),
    "r-2x64-8-wd0.4-dropout": Repeated(8, 0.4, 0.2),
    "r-2x64-64-wd1.6-dropout": Repeated(64, 1.6, 0.2),
    "r-2x64-16": Repeated(16),
    "r-1x32-64-wd0.4": Repeated(64, 0.4, layers=1, width=32),
    "r-2x64-64": Repeated(64),
    # Other sizes, so that each can be left out and told from those on both sides of it.
    "r-3x96-32": Repeated(32, layers=3, width=96),
    "r-1x64-32": Repeated(32, layers=1),
    "r-3x96-16-wd1.6": Repeated(16, 1.6, layers=3, width=96),
    "r-1x64-32-wd1.6": Repeated(32, 1.6, layers=1),
    "r-3x96-16-dropout": Repeated(16, 0.1, 0.2, layers=3, width=96),
    "r-1x64-16-dropout": Repeated(16, 0.1, 0.2, layers=1),
    "r-4x128-16": Repeated(16, layers=4, width=128),
    "r-4x128-16-wd1.6": Repeated(16, 1.6, layers=4, width=128),
    "r-3x96-8": Repeated(8, layers=3, width=96),
    "r-1x64-64": Repeated(64, layers=1),
    "r-4x128-8-dropout": Repeated(8, 0.1, 0.2, layers=4, width=128),
}


def slices(wikitext: Path, train_bytes: int) -> tuple[Path, Path]:
    """The beginning and the end of the text, as files."""
    WORK.mkdir(parents=True, exist_ok=True)
    text = wikitext.read_bytes()
    train, validation = WORK / "train.txt", WORK / "validation.txt"
    train.write_bytes(text[:train_bytes].decode(errors="ignore").encode())
    validation.write_bytes(text[-VALIDATION_BYTES:].decode(errors="ignore").encode())
    return train, validation


def make(name: str, run: Repeated, texts: tuple[Path, Path]) -> dict:
    """Train it, and gather its curve and set-up."""
    from run_clm import main as train

    recipe, folder = run.recipe(*texts), WORK / name
    recipe_file = WORK / f"{name}.json"
    recipe_file.write_text(json.dumps(recipe | {"output_dir": str(folder)}))
    with (WORK / f"{name}.log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        failed = train(["--config", str(recipe_file)])
    if failed:
        raise SystemExit(f"{name}: {WORK / f'{name}.log'} says why it failed")
    history, figures = (read_json(folder / file) for file in ("trainer_state.json", "data.json"))
    results = read_json(folder / "all_results.json")
    kept = {key: value for key, value in recipe.items() if key not in ("train_file", "validation_file", "use_cpu")}
    return {
        "name": name,
        "text": "wikitext",
        "recipe": kept | {"max_steps": history["max_steps"]},
        "source": f"calibration/repetition_runs.py, {platform.system()} {platform.machine()} CPU, {date.today():%Y-%m}",
        "dataset_tokens": figures["train"]["tokens"],
        "dataset_bytes": figures["train"]["bytes"],
        "validation_tokens": results["eval_tokens"],
        "validation_bytes": results["eval_bytes"],
        "unigram_loss": round(figures["unigram_loss"], 4),
        "train": [[e["step"], round(e["loss"], 3)] for e in history["log_history"] if "loss" in e],
        "validation": [[e["step"], round(e["eval_loss"], 4)] for e in history["log_history"] if "eval_loss" in e],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wikitext", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=[])
    args = parser.parse_args()
    for name in args.names or RUNS:
        if name in {curve["name"] for curve in read_json(CURVES) or []}:
            continue
        print(f"{name} …", flush=True)
        curve = make(name, RUNS[name], slices(args.wikitext, RUNS[name].text_bytes))
        keep(CURVES, curve, list(RUNS))
        losses = [loss for _, loss in curve["validation"]]
        print(f"{name}: validation loss {losses[-1]:.4f}, at its best {min(losses):.4f}", flush=True)


if __name__ == "__main__":
    main()
