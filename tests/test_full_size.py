"""wt103.json as shipped, at full size, its data from a server that speaks the Hub's protocol."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.tiny import ROOT
from tests.wikitext import add_wikitext, wikitext_rows


@pytest.mark.slow
def test_wt103_runs_two_optimizer_steps_on_a_cpu(tmp_path):
    """12 layers, 12 heads, 768 wide, 32,000 ids, blocks of 1024: the first loss is the uniform baseline."""
    with HubServer() as hub:
        add_wikitext(hub, wikitext_rows(6000, seed=0), wikitext_rows(2, seed=1), wikitext_rows(2, seed=2))
        done = subprocess.run(
            [
                *("/usr/bin/time", "-v") * Path("/usr/bin/time").exists(),
                *(str(Path(sys.executable).parent / "accelerate"), "launch", str(ROOT / "run_clm.py")),
                *("--config", str(ROOT / "recipes/wt103.json"), "--gradient_accumulation_steps", "2"),
                *("--max_steps", "2", "--logging_steps", "1", "--output_dir", "out"),
            ],
            cwd=tmp_path,
            env=hub.env(tmp_path / "home") | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    log = json.loads((tmp_path / "out/trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 2 and abs(losses[0] - math.log(32_000)) < 0.3
    config = json.loads((tmp_path / "out/config.json").read_text())
    shape = [config[key] for key in ("n_layer", "n_head", "n_embd", "vocab_size", "n_positions")]
    assert shape == [12, 12, 768, 32_000, 1024]
    assert re.search(r"steps: 2 of 8 sequences \(8,192 tokens\)", done.stdout)
