"""Training steps a second: this project beside the stock Trainer and a compiled loop, in the same run.

    python -m benchmarks.train [--shape small|tiny] [--rounds N]

Prints a table and writes benchmarks/results/train-SHAPE.json. Each measurement is a process of its own, the ways take
turns. Ours is the real command, run_clm.py, whose log is read; all have the same model, batch, block and dropout (0).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

import torch

from benchmarks import prepare_texts
from benchmarks.machine import machine
from benchmarks.prepare import ROOT, WORK, row
from clm.launch import hardware
from clm.model.flops import flops_per_token
from clm.model.matmul_rate import measured_matmul_rate

SHAPES = {  # of GPT2Config, sequences of a step, timed steps
    "small": ({"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 32_000}, 4, 3),
    "tiny": ({"n_layer": 3, "n_head": 4, "n_embd": 128, "n_positions": 128, "vocab_size": 2_048}, 16, 60),
}
TARGETS = {"small": (2.5, 1.4), "tiny": (2.0, None)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="`small` is the 12 x 768 of wt103")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    shape, batch, steps = SHAPES[args.shape]
    ways = {"ours": ours, "trainer": standard, "compiled": standard}
    measured: dict[str, list[dict]] = {way: [] for way in ways}
    device = "cuda" if hardware.device_type({}) == "cuda" else "cpu"
    dtype, name = (torch.bfloat16, "bf16") if hardware.has_bf16(device) else (torch.float32, "fp32")  # as ours trains
    for _ in range(args.rounds):
        for way, measure in ways.items():
            rates = [measured_matmul_rate(device, dtype, 2048, 3.0)]  # before and after: machines drift
            result = measure(way, shape, batch, steps)
            rates.append(measured_matmul_rate(device, dtype, 2048, 3.0))
            result["matmul_flops"] = statistics.mean(rates)
            measured[way].append(result)
            print(f"{way:9} {speed(result, shape, batch):10,.0f} tokens/s", flush=True)
    report = {
        "shape": shape,
        "batch": batch,
        "measured": measured,
        "matmul_flops": {
            "fp32": measured_matmul_rate(device, torch.float32, 2048, 3.0),
            name: statistics.median(result["matmul_flops"] for done in measured.values() for result in done),
        },
        "machine": machine(),
    }
    print(table(report, args.shape))
    result = ROOT / "benchmarks" / "results" / f"train-{args.shape}.json"
    result.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"\nwritten: {result.relative_to(ROOT)}")


def standard(way: str, shape: dict, batch: int, steps: int) -> dict:
    """Seconds of steps and peak memory of a stock way."""
    command = ["-m", "benchmarks.train_standard", way, json.dumps(shape), str(batch), str(steps)]
    return json.loads(_run(command).splitlines()[-1])


def ours(way: str, shape: dict, batch: int, steps: int) -> dict:
    """The same of this project's own command."""
    text = prepare_texts.python_documentation(WORK)
    few = WORK / "few-words.txt"
    few.write_text("A little text, so that evaluating takes no time.\n", "utf-8")
    folder = WORK / "train"
    shutil.rmtree(folder, ignore_errors=True)
    options = {
        **{key: shape[key] for key in ("n_layer", "n_head", "n_embd", "vocab_size")},
        "block_size": shape["n_positions"],
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        "train_file": str(text),
        "validation_file": str(few),
        "document_separator": "blank_line",
        "per_device_train_batch_size": batch,
        "max_steps": steps + 1,
        "logging_steps": 1,
        "bf16": True,
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "output_dir": str(folder),
        "cache_dir": str(WORK / "cache"),
    }
    recipe = WORK / "train.json"
    recipe.write_text(json.dumps(options), "utf-8")
    _run(["run_clm.py", "--config", str(recipe)])
    log = json.loads((folder / "trainer_state.json").read_text("utf-8"))["log_history"]
    readings = [entry for entry in log if "tokens_per_second" in entry][1:]
    tokens = batch * shape["n_positions"]
    peak = max(entry["memory_gb"] for entry in readings) * 1e9
    return {"seconds": [tokens / entry["tokens_per_second"] for entry in readings], "peak_rss": peak}


def _run(words: list[str]) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr}")
    return done.stdout


def speed(result: dict, shape: dict, batch: int) -> float:
    """Tokens a second, by the median step."""
    return batch * shape["n_positions"] / statistics.median(result["seconds"])


def table(report: dict, name: str) -> str:
    """What was measured beside what was to be reached, as Markdown."""
    shape, batch = report["shape"], report["batch"]
    speeds = {way: [speed(result, shape, batch) for result in done] for way, done in report["measured"].items()}
    peaks = {way: [result["peak_rss"] / 1e6 for result in done] for way, done in report["measured"].items()}
    in_matmuls = (
        shape["vocab_size"] * shape["n_embd"] + shape["n_layer"] * (12 * shape["n_embd"] + 13) * shape["n_embd"]
    )
    flops = flops_per_token(in_matmuls + 2 * shape["n_embd"], shape["n_layer"], shape["n_embd"], shape["n_positions"])
    of_trainer, of_compiled = TARGETS[name]
    rates = (f"{rate / 1e9:,.0f} GFLOP/s in {kind}" for kind, rate in report["matmul_flops"].items())
    median = {way: statistics.median(values) for way, values in speeds.items()}
    lines = [
        f"{shape['n_layer']} x {shape['n_embd']}, {shape['vocab_size']:,} ids, batch {batch} x {shape['n_positions']}; "
        f"machine: {report['machine']['cpu']}, {report['machine']['cores']} cores; matmuls: "
        f"{', '.join(rates)}",
        "",
        "| | median | min to max | target | |",
        "|---|---|---|---|---|",
        *(row(f"{way}: tokens/s", values) for way, values in speeds.items()),
        row("ours, times the stock Trainer", [v / median["trainer"] for v in speeds["ours"]], at_least=of_trainer),
        row("ours, times the compiled loop", [v / median["compiled"] for v in speeds["ours"]], at_least=of_compiled),
        row(
            "ours, share of the matmul rate",
            [
                v * flops / done["matmul_flops"]
                for v, done in zip(speeds["ours"], report["measured"]["ours"], strict=True)
            ],
            at_least=0.6 if name == "small" else None,
        ),
        *(row(f"{way}: peak memory, MB", values) for way, values in peaks.items()),
        row(
            "peak memory, ours to the stock Trainer's",
            [statistics.median(peaks["ours"]) / statistics.median(peaks["trainer"])],
            at_most=0.55 if name == "small" else None,
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
