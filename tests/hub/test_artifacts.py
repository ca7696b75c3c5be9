"""A tokenizer and a packed text on the Hub, read by the tools that others use, in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

from transformers import AutoTokenizer

from clm.__main__ import main
from clm.data.store.token_store import TokenStore
from clm.hub import artifacts

READ = """
import json
from datasets import load_dataset
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("tester/tokenizer")
rows = {split: [row["input_ids"] for row in load_dataset("tester/blocks", split=split, streaming=True)]
        for split in ("train", "validation")}
whole = load_dataset("tester/blocks", cache_dir="cache")
assert {split: whole[split]["input_ids"][:] for split in rows} == rows
print(json.dumps([tokenizer("naïve text")["input_ids"], rows]))
"""


def test_auto_tokenizer_and_load_dataset_read_them(hub, copy, monkeypatch):
    monkeypatch.setattr(artifacts, "SHARD_TOKENS", 1600)
    monkeypatch.setattr(artifacts, "_GROUP_TOKENS", 320)
    assert main(["push", "out", "--tokenizer", "tester/tokenizer"]) == 0
    assert main(["push", "out", "--dataset", "tester/blocks", "--hub_private_repo"]) == 0
    names = [name for name in hub.repos["dataset", "tester/blocks"].files if name.endswith(".parquet")]
    assert sorted(names) == [
        *("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"),
        "data/validation-00000-of-00001.parquet",
    ]
    assert hub.repos["dataset", "tester/blocks"].private and not list(Path(".cache").glob("tmp*"))
    read = subprocess.run(
        [sys.executable, "-c", READ], env=hub.env(copy / "home"), capture_output=True, text=True, timeout=120
    )
    assert read.returncode == 0, read.stderr
    ids, rows = json.loads(read.stdout)
    assert ids == AutoTokenizer.from_pretrained("out")("naïve text")["input_ids"]
    for split, blocks in rows.items():
        store = TokenStore(next(Path(".cache/tokens").glob(f"*-{split}-*/store.json")).parent)
        flat = [token for block in blocks for token in block]
        assert {len(block) for block in blocks} == {16} and store.tokens - len(flat) < 16
        assert flat == store.span(0, len(flat)).tolist()


def test_what_is_no_run_is_named(hub, workplace, capfd):
    assert main(["push", "nowhere"]) == 2
    assert capfd.readouterr().err == "error: nowhere: not a run's folder: it has no recipe.json\n"
