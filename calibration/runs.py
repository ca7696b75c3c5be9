"""Makes the small real runs whose curves the forecast is fitted to or scored on, with the project's own command.

    python -m calibration.runs --english FILE --wikitext FILE [NAME ...]

Each takes one to four minutes of one core. A run whose text isn't given is passed over; one that is in its file
already too. Those of HELD_OUT go to calibration/held_out_runs.json, the others to
clm/explain/references/small_runs.json. `python-docs` needs no file. The published curves are of 62 MB of English from
Debian's packages (dictionaries, handbooks, a FAQ, quotations) and of WikiText-103's validation split as a text file.
"""

import argparse
import json
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

from calibration.curves import keep
from calibration.fit import HELD_OUT as HELD_OUT_FILE
from calibration.table import HELD_OUT, RUNS, Run
from clm.config.recipe import load
from clm.data.prepare import open_text, prepare
from clm.explain.scaling import unigram_loss
from clm.files import read_json
from clm.rollback import Rollback

ROOT = Path(__file__).resolve().parent.parent
CURVES = ROOT / "clm" / "explain" / "references" / "small_runs.json"
WORK = Path("runs", "forecast")


def make(name: str, run: Run, texts: dict[str, str]) -> dict:
    """Train it, and gather its curve and set-up."""
    folder = WORK / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    recipe_file = WORK / f"{name}.json"
    recipe_file.write_text(json.dumps(run.recipe(texts) | {"output_dir": str(folder)}))
    command = [sys.executable, str(ROOT / "run_clm.py"), "--config", str(recipe_file)]
    with (WORK / f"{name}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    recipe = load(recipe_file)
    with Rollback() as rollback:
        data = prepare(recipe.data, open_text(recipe.data, recipe.training["seed"]), False, lambda _: None, rollback)
    history = read_json(folder / "trainer_state.json")["log_history"]
    results = read_json(folder / "all_results.json")
    kept = {key: value for key, value in run.recipe(texts).items() if key not in ("train_file", "use_cpu")}
    return {
        "name": name,
        "text": run.text,
        "recipe": kept,
        "source": f"calibration/runs.py, {platform.system()} {platform.machine()} CPU, {date.today():%Y-%m}",
        "dataset_tokens": data.train.tokens,
        "dataset_bytes": data.train.totals.bytes,
        "validation_tokens": results["eval_tokens"],
        "validation_bytes": results["eval_bytes"],
        "unigram_loss": round(unigram_loss(data.train, data.validation), 4),
        "train": [[e["step"], round(e["loss"], 3)] for e in history if "loss" in e],
        "validation": [[e["step"], round(e["eval_loss"], 4)] for e in history if "eval_loss" in e],
    }


def file_of(name: str) -> Path:
    """Where its curve is kept."""
    return HELD_OUT_FILE if name in HELD_OUT else CURVES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--english")
    parser.add_argument("--wikitext")
    parser.add_argument("names", nargs="*", default=[])
    args = parser.parse_args()
    texts = {name: path for name, path in (("english", args.english), ("wikitext", args.wikitext)) if path}
    CURVES.parent.mkdir(exist_ok=True)
    for name in args.names or RUNS:
        there = {curve["name"] for curve in read_json(file_of(name)) or []}
        if name in there or RUNS[name].text not in {"python-docs", *texts}:
            continue
        print(f"{name} …", flush=True)
        curve = make(name, RUNS[name], texts)
        keep(file_of(name), curve, list(RUNS))
        print(f"{name}: validation loss {curve['validation'][-1][1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
