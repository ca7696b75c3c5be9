"""The runs of benchmarks/regime as runs of many epochs over little text: each row's curve, and what is known of it.

A row's seeds are one curve, their mean. Rows that change more than a recipe's keys (another optimizer step, another
order, an average of weights) are left out: the expected loss knows nothing of such parts.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.regime.rows import SIZES, read
from clm.files import read_json

FITTED = 102  # of the file's runs, which is added to: those after them are in no fit, and score it
RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "regime.json"
# Bytes of each size's training text, and the loss of its token frequencies on the held-out text, nats: as the project's
# own preparation (data.json) counts them of the texts that benchmarks/regime cuts from WikiText's validation split.
TEXTS = {
    "small": (25_800, 5.1915),
    "large": (103_200, 5.1449),
    "ample": (163_400, 5.1807),
    "half": (40_850, 5.1887),
    "wide": (653_600, 5.2079),
}


def entries(new: bool = False) -> list[dict[str, Any]]:
    """As of clm/explain/references/repeated_runs.json, and the `size` of each: of the FITTED, or of the `new`."""
    seeds, runs = defaultdict(list), read_json(RESULTS)["runs"]
    for run in runs[FITTED:] if new else runs[:FITTED]:
        seeds[run["size"], run["row"]].append(run)
    made = [_entry(size, row, runs) for (size, row), runs in seeds.items() if size in TEXTS]
    return [entry for entry in made if entry is not None]


def _entry(size: str, row: str, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    changes, steps = read(row, SIZES[size]), runs[0]["steps"]
    if changes.parts or not changes.keys.get("shift_blocks", True):
        return None
    recipe = {key: value for key, value in changes.keys.items() if value is not None}
    losses = np.mean([run["curve"] for run in runs], axis=0)
    every = math.ceil(steps / len(losses))  # as the Trainer rounds a share of the steps
    size_in_bytes, unigram_loss = TEXTS[size]
    return {
        "name": f"{size}: {row}",
        "size": size,
        "text": "wikitext",
        "recipe": recipe | {"max_steps": steps},
        "dataset_tokens": runs[0]["tokens"],
        "dataset_bytes": size_in_bytes,
        "unigram_loss": unigram_loss,
        "validation": [[min(steps, every * (i + 1)), float(loss)] for i, loss in enumerate(losses)],
    }
