"""Small real runs on a text with something to learn, and faults planted in them from outside."""

import random
from pathlib import Path
from typing import Any

from clm.explain.explain import explain_run
from clm.runs.record import read_run
from tests.tiny import run, write_recipe

BASE = {
    "train_file": "text.txt",
    "validation_file": "validation.txt",
    "validation_split_percentage": None,
    "n_layer": 1,
    "n_embd": 32,
    "block_size": 32,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-2,
    "warmup_steps": 5,
    "max_steps": 300,
    "eval_steps": 30,
    "logging_steps": 3,
    "save_strategy": "no",
    "load_best_model_at_end": False,
}


def sentences(count: int, seed: int) -> list[str]:
    """Lines in which every word has four successors: a model that learns them is far below the unigram entropy."""
    language, chance = random.Random(1), random.Random(seed)
    words = ["".join(language.choices("abcdefghijklm", k=language.randint(2, 7))) for _ in range(90)]
    after = {word: language.choices(words, k=4) for word in words}
    lines = []
    for _ in range(count):
        line = [chance.choice(words)]
        while len(line) < 20:
            line.append(chance.choice(after[line[-1]]))
        lines.append(" ".join(line))
    return lines


def write_texts(train: list[str], validation: list[str]) -> None:
    """The two texts of BASE, a document a line."""
    Path("text.txt").write_text("\n".join(train) + "\n", "utf-8")
    Path("validation.txt").write_text("\n".join(validation) + "\n", "utf-8")


def findings(*argv: str, **changes: Any) -> list[str]:
    """The names of what is wrong with a run of BASE with these changes."""
    write_recipe(**(BASE | changes))
    assert run(*argv) == 0
    return [fault["name"] for fault in explain_run(read_run(Path("out")))["findings"]]
