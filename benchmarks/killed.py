"""A run that is killed and started again, beside one that nobody disturbed: what both print, and how they end.

    python -m benchmarks.killed

Trains a small model on Python's documentation, once undisturbed, and once with a SIGKILL each time it has logged one of
the steps in KILLS. Writes benchmarks/results/killed.json, which `make pictures` draws.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import machine
from clm.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/killed.json"
STEPS, KILLS = 400, (90, 230, 310)
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 64, "max_steps": STEPS, "save_steps": 50, "eval_steps": 50,
         "logging_steps": 10}  # fmt: skip
LOGGED = re.compile(r"step ([\d,]+)/[\d,]+: loss ([\d.]+)")


def start(output_dir: Path, cache: Path, kill_at: int | None) -> list[tuple[int, float]]:
    """Start the run's command, and kill it once it has logged `kill_at`; the (step, loss) pairs that it printed."""
    options = [word for key, value in SHAPE.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, str(ROOT / "run_clm.py"), "--config", str(ROOT / "recipes/quickstart.json"), *options]
    printed = []
    with subprocess.Popen(
        [*command, "--output_dir", str(output_dir), "--cache_dir", str(cache)], cwd=cache.parent, text=True,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        for line in process.stdout:
            if found := LOGGED.search(line):
                printed.append((int(found[1].replace(",", "")), float(found[2])))
                print(f"{output_dir.name}: step {printed[-1][0]}, loss {printed[-1][1]}", flush=True)
            if kill_at and printed and printed[-1][0] >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
    if process.returncode != (-signal.SIGKILL if kill_at else 0):
        sys.exit(f"the run ended with {process.returncode}")
    return printed


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        cache, undisturbed, killed = place / "cache", place / "undisturbed", place / "killed"
        whole = start(undisturbed, cache, None)
        starts = [start(killed, cache, step) for step in (*KILLS, None)]
        weights = [(folder / "model.safetensors").read_bytes() for folder in (undisturbed, killed)]
        write_json(RESULT, {
            "shape": SHAPE,
            "undisturbed": whole,
            "starts": starts,
            "equal_weights": weights[0] == weights[1],
            "machine": machine(),
        })  # fmt: skip
    print(f"weights equal: {weights[0] == weights[1]}; written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
