"""A finished run on the Hub: what is there, and what isn't."""

import io
import subprocess
import sys
from pathlib import Path

from huggingface_hub import ModelCard
from safetensors.torch import load, load_file

from tests.hub_protocol import READ_TOKEN, WRITE_TOKEN
from tests.hub_server import HubServer
from tests.tiny import ROOT, write_recipe


def train(hub: HubServer, folder: Path, token: str) -> subprocess.CompletedProcess:
    write_recipe(push_to_hub=True, hub_model_id="tester/tiny", max_steps=2, eval_steps=1, save_steps=1)
    return subprocess.run(
        [sys.executable, str(ROOT / "run_clm.py"), "--config", "tiny.json"],
        env=hub.env(folder / "home", token=token),
        capture_output=True,
        text=True,
    )


def test_a_finished_run_is_pushed_whole_and_without_its_checkpoints(workplace):
    with HubServer() as hub:
        done = train(hub, workplace, WRITE_TOKEN)
        assert done.returncode == 0, done.stderr
        files = hub.repos["model", "tester/tiny"].files
    assert load(files["model.safetensors"]).keys() == load_file("out/model.safetensors").keys()
    assert files["model.safetensors"] == Path("out/model.safetensors").read_bytes()
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "recipe.json"} <= set(files)
    assert not [name for name in files if "checkpoint" in name or name.endswith((".bin", ".pt"))]
    card = ModelCard(io.BytesIO(files["README.md"]).read().decode())
    assert card.data.pipeline_tag == "text-generation"
    assert {result.metric_type for result in card.data.eval_results} >= {"perplexity", "bits_per_byte"}
    said = done.stdout + done.stderr + "".join(p.read_text("utf-8") for p in Path("out").glob("*.json"))
    assert WRITE_TOKEN not in said and "pushed to" in done.stdout


def test_a_token_that_may_not_write_is_found_before_training(workplace):
    with HubServer() as hub:
        done = train(hub, workplace, READ_TOKEN)
    assert done.returncode == 2 and "step 1/2" not in done.stdout
    assert done.stderr.startswith("error: push_to_hub: the Hub refuses tester/tiny") and done.stderr.count("\n") == 1
    assert not Path("out").exists()
