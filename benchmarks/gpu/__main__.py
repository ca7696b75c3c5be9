"""`python -m benchmarks.gpu`: every part in turn, a table with ok and NOT, and benchmarks/results/gpu-NAME.json.

    python -m benchmarks.gpu [--only PART ...] [--output FILE] [--rehearse]

Exit code 0: all is ok; 1: something is NOT; 2: there is no GPU that torch can use. `--rehearse` goes through all parts
on the CPU, at toy size, where figures mean nothing and only a part that fails is NOT; it writes no result.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.commands import environment
from benchmarks.gpu.rows import failures, table
from benchmarks.gpu.runner import Outcome, Part, run
from benchmarks.gpu.setting import ROOT

RESULTS = ROOT / "benchmarks" / "results"
BUDGET = 590.0  # seconds for all parts
REHEARSAL_BUDGET = 3600.0  # a CPU may be slow and busy
_IN = "benchmarks.gpu."
# Every part has its seconds, whatever those before it do, and all the time that these have left.
PARTS = (
    Part("machine", _IN + "machine:check", 30),
    Part("quickstart", _IN + "runs:quickstart", 60),
    Part("large", _IN + "runs:large", 70),
    Part("speed", _IN + "speed:check", 120),
    Part("loss", _IN + "loss:check", 25),
    Part("muon", _IN + "muon:check", 25),
    Part("syncs", _IN + "syncs:check", 25),
    Part("evaluation", _IN + "evaluation:check", 50),
    Part("determinism", _IN + "determinism:plain", 25),
    Part("deterministic", _IN + "determinism:switched", 35),
    Part("saving", _IN + "saving:check", 40),
    Part("plan", _IN + "estimate:check", 20),
    Part("ranks", _IN + "ranks:check", 65),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], metavar="PART", help="not all")
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of benchmarks/results/gpu-NAME.json")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy size; writes no result")
    args = parser.parse_args()
    about = describe(args.rehearse)
    if isinstance(about, str):
        print(f"gpu-check: {about}", file=sys.stderr)
        return 2
    parts = [part for part in PARTS if not args.only or part.name in args.only]
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    folder, began = Path(tempfile.mkdtemp(prefix="gpu-check-", dir=cache)), time.monotonic()
    try:
        budget = REHEARSAL_BUDGET if args.rehearse else BUDGET
        outcomes = run(parts, folder, budget, args.rehearse, partial(print, flush=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {name: outcome.rows for name, outcome in outcomes.items()}
    print(f"\n{table(found)}\n\n{summary(found, time.monotonic() - began)}")
    output = args.output or (None if args.rehearse or args.only else RESULTS / f"gpu-{slug(about['gpu'])}.json")
    if output:
        write(output, outcomes, about, args.rehearse)
        print(f"written: {output}")
    return 1 if failures(found) else 0


def describe(rehearsal: bool) -> dict[str, Any] | str:
    """This machine as `benchmarks.machine` has it; or a line on why there is nothing to check.

    By another process, so that this one holds no memory of the card.
    """
    words = [sys.executable, "-m", "benchmarks.gpu.about", *["--rehearse"] * rehearsal]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["nothing is known of this machine"]
    return json.loads(lines[-1]) if done.returncode == 0 else lines[-1]


def slug(name: str) -> str:
    """A card's name as a file's: `NVIDIA H100 80GB HBM3` becomes `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def summary(found: dict[str, list], seconds: float) -> str:
    """How many rows are NOT, and which."""
    wrong, held = failures(found), sum(row.ok is True for rows in found.values() for row in rows)
    lines = [f"{held} ok, {len(wrong)} NOT, in {seconds:.0f} s", *(f"  NOT: {name}" for name in wrong)]
    return "\n".join(lines)


def write(output: Path, outcomes: dict[str, Outcome], about: dict[str, Any], rehearsal: bool) -> None:
    """Keep all rows, with the machine and the seconds of each part."""
    parts = {
        name: {
            "seconds": round(outcome.seconds, 1),
            "rows": [row.as_json() for row in outcome.rows],
            **({"log": outcome.log} if outcome.log else {}),
        }
        for name, outcome in outcomes.items()
    }
    report = {"rehearsal": rehearsal, "machine": about, "parts": parts}
    output.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
