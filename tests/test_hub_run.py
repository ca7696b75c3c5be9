"""Runs on a dataset of the Hub, from a server that speaks its protocol."""

import json
import subprocess
import sys
from pathlib import Path

from tests.hub_server import HubServer
from tests.tiny import ROOT, write_recipe
from tests.wikitext import add_wikitext, wikitext_rows

WIKITEXT = {
    "train_file": None,
    "document_separator": None,
    "validation_split_percentage": None,
    "dataset_name": "Salesforce/wikitext",
    "dataset_config_name": "wikitext-103-raw-v1",
    "max_steps": 2,
    "eval_steps": 1,
    "save_steps": 1,
}


def train(hub: HubServer, folder: Path, *argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "run_clm.py"), "--config", "tiny.json", *argv],
        env=hub.env(folder / "home"),
        capture_output=True,
        text=True,
    )


def test_wikitext_is_read_as_articles_whether_downloaded_or_streamed(workplace):
    write_recipe(**WIKITEXT)
    with HubServer() as hub:
        validation = wikitext_rows(3, seed=1)
        add_wikitext(hub, wikitext_rows(20, seed=0), validation, wikitext_rows(2, seed=2))
        downloaded = train(hub, workplace)
        assert downloaded.returncode == 0, downloaded.stderr
        streamed = train(hub, workplace, "--streaming", "--output_dir", "streamed", "--cache_dir", "other")
        assert streamed.returncode == 0, streamed.stderr
    assert "in 20 documents" in downloaded.stdout and "in 20 documents" in streamed.stdout
    results = [json.loads(Path(folder, "eval_results.json").read_text()) for folder in ("out", "streamed")]
    # A row is one line end, whatever it holds; WikiText counts it as a word.
    text = "".join(row if row.endswith("\n") else row + "\n" for row in validation)
    for result in results:
        assert result["eval_words"] == len(text.split()) + len(validation)
        assert result["eval_bytes"] == len(text.encode())
    assert results[0] == results[1]
    assert not list(Path("other").rglob("*.arrow"))  # streaming leaves no copy of the dataset


def test_a_run_goes_on_without_a_network_once_the_data_is_there(workplace):
    write_recipe(**WIKITEXT)
    with HubServer() as hub:
        add_wikitext(hub, wikitext_rows(20, seed=0), wikitext_rows(3, seed=1), wikitext_rows(2, seed=2))
        assert train(hub, workplace).returncode == 0
        hub.stop()
        away = train(hub, workplace, "--max_steps", "3")
        assert away.returncode == 0, away.stderr
        assert "resuming from out/checkpoint-2" in away.stdout
        hub.start()
