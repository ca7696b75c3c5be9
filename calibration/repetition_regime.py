"""The runs of benchmarks/regime as reference runs of many epochs: each row's curve, and what is known of it.

    python -m calibration.repetition_regime     writes clm/explain/references/regime_runs.json

A row's seeds are one curve, their mean. Rows that change what the expected loss knows nothing of are left out: another
optimizer step, another order, an average of weights, and the keys in UNKNOWN.
"""

import argparse
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.regime.results import arithmetic_of
from benchmarks.regime.rows import SIZES, read
from calibration.curves import write_runs
from clm.files import read_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "regime.json"
CURVES = ROOT / "clm" / "explain" / "references" / "regime_runs.json"
UNKNOWN = ("shift_blocks", "adam_beta2", "max_grad_norm", "attn_pdrop", "weight_decay_epochs")
# Bytes of each size's training text, and the loss of its token frequencies on the held-out text, nats: as the project's
# own preparation (data.json) counts them of the texts that benchmarks/regime cuts from WikiText's validation split.
TEXTS = {
    "small": (25_800, 5.1915),
    "large": (103_200, 5.1449),
    "ample": (163_400, 5.1807),
    "half": (40_850, 5.1887),
    "wide": (653_600, 5.2079),
    "scant": (25_800, 5.1915),
    "larger": (412_800, 5.1988),
    "deep": (653_600, 5.2079),
}


def entries() -> list[dict[str, Any]]:
    """As of references/repeated_runs.json, with the `size` of each and of how many `runs` it is the mean."""
    seeds = defaultdict(list)
    for run in read_json(RESULTS)["runs"]:
        if arithmetic_of(run) == "bf16":  # other sums end elsewhere: a mean of two kinds is neither's
            seeds[run["size"], run["row"]].append(run)
    made = [_entry(size, row, runs) for (size, row), runs in seeds.items()]
    return [entry for entry in made if entry is not None]


def _entry(size: str, row: str, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    changes, steps = read(row, SIZES[size]), runs[0]["steps"]
    base = read("base", SIZES[size]).keys
    if changes.parts or any(changes.keys.get(key) != base.get(key) for key in UNKNOWN):
        return None
    recipe = {key: value for key, value in changes.keys.items() if value is not None}
    losses = np.mean([run["curve"] for run in runs], axis=0)
    every = math.ceil(steps / len(losses))  # as the Trainer rounds a share of the steps
    size_in_bytes, unigram_loss = TEXTS[size]
    return {
        "name": f"{size}: {row}",
        "size": size,
        "runs": len(runs),
        "text": "wikitext",
        "recipe": recipe | {"max_steps": steps},
        "dataset_tokens": runs[0]["tokens"],
        "dataset_bytes": size_in_bytes,
        "unigram_loss": unigram_loss,
        "validation": [[min(steps, every * (i + 1)), round(float(loss), 4)] for i, loss in enumerate(losses)],
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    write_runs(CURVES, entries())


if __name__ == "__main__":
    main()
