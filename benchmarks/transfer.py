"""The best learning rate at several widths, and what the narrowest one's costs at the others, with a rule and without.

    python -m benchmarks.transfer [--optim adamw_torch_fused|muon] [--widths 64 128 256] [--seeds 1 2]

GPT-2s of 2 layers, alike but for their width (heads of 32), on Python's documentation: 2,048 ids, blocks of 128, 1,024
tokens a step, 800 steps, each rate of a grid of factor 2 with a whole schedule of its own. A seed sets the weights at
the start, the order and the validation split, so that losses are compared within a seed only. Runs that
benchmarks/results/transfer.json has are not made again; the table is printed at the end.
"""

import argparse
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from accelerate.state import AcceleratorState
from filelock import FileLock

import run_clm
from benchmarks.machine import machine
from clm.files import read_json, write_json
from clm.sweep.transfer import WIDTH_POWER

RESULT = Path(__file__).resolve().parent / "results" / "transfer.json"
WORK = Path("runs", "transfer")
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
OPTIMIZERS = ("adamw_torch_fused", "muon")
RECIPE = {
    "dataset_name": "python-docs",
    "validation_split_percentage": 5,
    "vocab_size": 2048,
    "block_size": 128,
    "n_layer": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "warmup_steps": 0.1,
    "adam_beta2": 0.99,
    "max_steps": 800,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "logging_steps": 25,
}


def train(optim: str, width: int, rate: float, seed: int) -> dict:
    """One run of the real command, and what came out; a run that failed has no loss."""
    WORK.mkdir(parents=True, exist_ok=True)
    name = f"{optim}-{width}-{rate:g}-{seed}"
    keys = RECIPE | {"optim": optim, "n_embd": width, "n_head": width // 32, "learning_rate": rate, "seed": seed}
    recipe = WORK / f"{name}.json"
    recipe.write_text(json.dumps(keys | {"output_dir": str(WORK / name)}), "utf-8")
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    with (WORK / f"{name}.log").open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        code = run_clm.main(["--config", str(recipe)])
    if code in (2, 75):
        raise SystemExit(f"{WORK / name}.log says what is wrong")
    results = read_json(WORK / name / "all_results.json") if code == 0 else {}
    row = {"optim": optim, "width": width, "rate": rate, "seed": seed, "loss": results.get("eval_loss")}
    return row | {"seconds": results.get("train_runtime")}


def excess(rows: list[dict], width: int, by_every_seed: bool = False) -> dict[float, float]:
    """How far each rate's loss is above the best rate's, nats: the mean over the seeds that it was run with."""
    rows = [row for row in rows if row["width"] == width]
    losses = {(row["seed"], row["rate"]): np.inf if row["loss"] is None else row["loss"] for row in rows}
    seeds, rates = {seed for seed, _ in losses}, sorted({rate for _, rate in losses})
    by_all = [rate for rate in rates if all((seed, rate) in losses for seed in seeds)]
    best = min(by_all, key=lambda rate: np.mean([losses[seed, rate] for seed in seeds]))
    above = {rate: [losses[s, rate] - losses[s, best] for s in seeds if (s, rate) in losses] for rate in rates}
    above = {rate: each for rate, each in above.items() if len(each) == len(seeds) or not by_every_seed}
    return {rate: float(np.mean(each)) for rate, each in above.items()}


def optimum(above: dict[float, float]) -> float:
    """The lowest point of the parabola through the best rate and its neighbours, over log rate; an end is its own."""
    rates = list(above)
    best = min(range(len(rates)), key=lambda i: above[rates[i]])
    near = rates[max(0, best - 1) : best + 2]
    if len(near) < 3 or not np.isfinite([above[rate] for rate in near]).all():
        return rates[best]
    a, b, _ = np.polyfit(np.log(near), [above[rate] for rate in near], 2)
    return float(np.exp(-b / (2 * a))) if a > 0 else rates[best]


def at(above: dict[float, float], rate: float) -> float:
    """Nats above the best at any rate within the grid, by straight lines over log rate; nan outside."""
    rates = list(above)
    outside = not rates[0] * 0.999 <= rate <= rates[-1] * 1.001
    return float("nan") if outside else float(np.interp(np.log(rate), np.log(rates), [above[r] for r in rates]))


def summary(rows: list[dict], optim: str) -> list[dict]:
    """For each width: the optimum, and what the narrowest width's best rate costs there, as it is and scaled."""
    rows = [row for row in rows if row["optim"] == optim]
    widths = sorted({row["width"] for row in rows})
    table = []
    for width in widths:
        above = excess(rows, width)
        narrow = excess(rows, widths[0])
        found = min(narrow, key=narrow.get)
        scaled = found * (width / widths[0]) ** WIDTH_POWER
        table.append(
            {
                "width": width,
                "above_best": {f"{rate:g}": round(value, 4) for rate, value in above.items()},
                "optimum": optimum(excess(rows, width, by_every_seed=True)),
                "unscaled": at(above, found),
                "scaled": at(above, scaled),
                "scaled_rate": scaled,
            }
        )
    return table


def keep(rows: list[dict]) -> dict:
    """Add rows to the file, which another process may write, too; what it then holds."""
    WORK.mkdir(parents=True, exist_ok=True)
    with FileLock(WORK / "results.lock"):
        runs = (read_json(RESULT) or {"runs": []})["runs"] + rows
        tables = {optim: summary(runs, optim) for optim in OPTIMIZERS if any(row["optim"] == optim for row in runs)}
        known = {"machine": machine(), "recipe": RECIPE, "summary": tables, "runs": runs}
        write_json(RESULT, known)
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optim", choices=OPTIMIZERS, default="adamw_torch_fused")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    args = parser.parse_args()
    wanted = [(args.optim, w, rate, seed) for seed in args.seeds for w in args.widths for rate in args.rates]
    known = read_json(RESULT) or {"runs": []}
    for spec in wanted:
        if spec not in {(row["optim"], row["width"], row["rate"], row["seed"]) for row in known["runs"]}:
            row = train(*spec)
            print(*row.values(), flush=True)
            known = keep([row])
    for row in keep([])["summary"][args.optim]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
