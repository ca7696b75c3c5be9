"""Runs that earlier versions have made: resumed where that is exact, refused in one line where it isn't."""

import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from clm.training.checkpoint import manifest
from tests.tiny import make_text, run, write_recipe


def text_as_0_1_0_named_it(text: Path) -> str:
    """The name that run_identity.json had for the text of tests.tiny's recipe: of sizes, not of paths and dates."""
    read = {"files": [text.stat().st_size], "text_column": "text", "separator": "line", "documents": 2}
    rule = {"percentage": 10, "seed": 42, "survey": True}
    sides = {split: {**read, "holdout": rule, "side": split} for split in ("train", "validation")}
    return hashlib.sha256(json.dumps(sides, sort_keys=True).encode()).hexdigest()[:16]


def as_0_1_0_wrote_it(checkpoint: Path, text: Path) -> None:
    """Make a checkpoint what 0.1.0 would have left: its text by that name, no pad token, no length of the context."""
    identity = json.loads((checkpoint / "run_identity.json").read_text())
    tokenizer = json.loads((checkpoint / "tokenizer_config.json").read_text())
    assert tokenizer.pop("pad_token") == "<|endoftext|>" and tokenizer["model_max_length"] == 16
    generation = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": True}
    changed = {
        "run_identity.json": identity | {"text": text_as_0_1_0_named_it(text)},
        "tokenizer_config.json": tokenizer | {"model_max_length": int(1e30)},
        "generation_config.json": generation,
    }
    for name, content in changed.items():
        (checkpoint / name).write_text(json.dumps(content))
    facts = manifest.manifest_of(checkpoint)
    (checkpoint / manifest.MANIFEST).unlink()
    manifest.write(checkpoint, {key: value for key, value in facts.items() if key not in ("files", "seal")}, {})


def test_a_run_of_0_1_0_resumes_to_the_very_weights_of_an_undisturbed_one(workplace, capsys):
    assert run() == 0
    undisturbed = load_file("out/model.safetensors")
    for name in Path("out").iterdir():
        if name.name != "checkpoint-3":
            shutil.rmtree(name) if name.is_dir() else name.unlink()
    as_0_1_0_wrote_it(Path("out/checkpoint-3"), Path("text.txt"))
    for made in ("tokenizer", ".cache"):  # its stores and its tokenizer had other names
        shutil.rmtree(made)
    capsys.readouterr()
    assert run() == 0
    assert "resuming from out/checkpoint-3" in capsys.readouterr().out
    weights = load_file("out/model.safetensors")
    assert all(torch.equal(weights[name], undisturbed[name]) for name in undisturbed)


def test_where_files_are_read_in_another_way_now_the_ids_show_it(workplace, capsys):
    write_recipe(max_steps=3)
    assert run() == 0
    identity = json.loads(Path("out/checkpoint-3/run_identity.json").read_text())
    assert identity["text"] == text_as_0_1_0_named_it(Path("text.txt"))
    Path("text.txt").write_text(make_text(seed=0).replace("a", "b"))  # as many bytes
    assert run("--max_steps", "6") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "belongs to a different run" in error and "tokens was" in error
