"""The same numbers as lm-evaluation-harness's, which is installed for it in an environment of its own.

LM_EVAL_VENV names a folder to keep that environment in; without it, it goes with pytest's other folders.
"""

import json
import math
import os
import re
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from clm.__main__ import main
from clm.data import tokenizer
from clm.evaluation import scoring
from clm.evaluation.windows import Windows, cut
from tests.data.small import Texts
from tests.tiny import ROOT
from tests.wikitext import wikitext_rows

HARNESS = "lm_eval[hf]==0.4.13"
TASK = """
task: wikitext_format
dataset_path: json
dataset_kwargs: {data_files: {test: PAGES}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: page
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
RUN = """
import json, lm_eval
from lm_eval.tasks import TaskManager
tasks = TaskManager(include_path="task", include_defaults=False)
results = lm_eval.simple_evaluate(
    model="hf", model_args="pretrained=model", tasks=["wikitext_format"], task_manager=tasks, device="cpu",
    batch_size=4, bootstrap_iters=0,
)["results"]["wikitext_format"]
print("\\n" + json.dumps({key.partition(",")[0]: value for key, value in results.items()}))
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """The Python that has the harness, with this project's versions of what it shares."""
    folder = Path(os.environ.get("LM_EVAL_VENV") or tmp_path_factory.mktemp("lm_eval") / "venv").absolute()
    python = folder / "bin" / "python"
    if not (folder / HARNESS).exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, HARNESS, "torch", "-c", ROOT / "requirements.txt"], check=True)
        (folder / HARNESS).touch()
    return python


def theirs(python: Path) -> dict[str, float]:
    """What the harness says of `model` and pages.jsonl in the current folder."""
    Path("task").mkdir(exist_ok=True)
    Path("task/wikitext_format.yaml").write_text(TASK.replace("PAGES", str(Path("pages.jsonl").absolute())))
    home = {"HF_HOME": str(Path("home").absolute()), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run([python, "-c", RUN], capture_output=True, text=True, env={**os.environ, **home})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def ours(*words: str) -> dict[str, float]:
    command = ["evaluate", "--model", "model", "--text_file", "pages.jsonl", "--text_column", "page"]
    assert main([*command, "--output", "ours.json", *words]) == 0
    return json.loads(Path("ours.json").read_text())


def prepare(pages: list[str], positions: int) -> None:
    """pages.jsonl, and a saved model with that many positions."""
    Path("pages.jsonl").write_text("".join(json.dumps({"page": page}) + "\n" for page in pages))
    trained = tokenizer.train(Texts(lambda: [pages]), 1000, 10**9, print)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=1000, n_positions=positions, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2,
        bos_token_id=trained.eos_token_id, eos_token_id=trained.eos_token_id,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained("model")
    trained.save_pretrained("model")


def articles() -> list[str]:
    """WikiText-format articles, each ` = Title = `, sections and lines."""
    pages: list[str] = []
    for row in wikitext_rows(6, seed=3):
        if re.fullmatch(" = [^=]+ = \n", row) and row != " = Not A Title = \n":
            pages.append("")
        if pages:
            pages[-1] += row if row.endswith("\n") else row + "\n"
    return pages


def their_words(pages: list[str]) -> int:
    return sum(len(re.split(r"\s+", page)) for page in pages)


def show(case: str, mine: dict[str, float], other: dict[str, float], words: int) -> None:
    """The figures that docs/evaluation.md quotes; shown by pytest -s."""
    print(f"\n{case}: ours word {mine['word_perplexity']:.4f} ({mine['eval_words']:,} words), bits per byte "
          f"{mine['bits_per_byte']:.6f}; theirs word {other['word_perplexity']:.4f} ({words:,} words), bits per byte "
          f"{other['bits_per_byte']:.6f}")  # fmt: skip


@pytest.mark.slow
def test_lines_no_longer_than_the_context_score_the_same_in_every_unit(workplace, harness):
    # A line's end is our word and, split at white space, an empty last piece of theirs: the counts are the same.
    lines = [row.lstrip() for row in wikitext_rows(4, seed=3) if row]
    prepare(lines, positions=1024)
    mine, other = ours(), theirs(harness)
    show("lines", mine, other, their_words(lines))
    assert mine["eval_words"] == their_words(lines)
    for key in ("word_perplexity", "bits_per_byte"):
        assert mine[key] == pytest.approx(other[key], rel=1e-4)
    assert math.exp(mine["nats_per_byte"]) == pytest.approx(other["byte_perplexity"], rel=1e-4)


@pytest.mark.slow
def test_articles_no_longer_than_the_context_differ_in_how_words_are_counted(workplace, harness):
    pages = articles()
    prepare(pages, positions=4096)
    mine, other = ours("--block_size", "4096"), theirs(harness)
    show("articles", mine, other, their_words(pages))
    assert mine["eval_tokens"] < 4096 * len(pages)
    assert mine["bits_per_byte"] == pytest.approx(other["bits_per_byte"], rel=1e-4)
    nats = mine["nats_per_word"] * mine["eval_words"]
    assert math.exp(nats / their_words(pages)) == pytest.approx(other["word_perplexity"], rel=1e-4)
    assert mine["eval_words"] > their_words(pages) and mine["word_perplexity"] < other["word_perplexity"]


@pytest.mark.slow
def test_longer_articles_differ_in_the_context_of_each_ones_last_window_only(workplace, harness, monkeypatch):
    pages = articles()
    prepare(pages, positions=128)
    mine, other = ours(), theirs(harness)
    show("articles, 128 positions", mine, other, their_words(pages))
    assert mine["bits_per_byte"] != pytest.approx(other["bits_per_byte"], rel=1e-4)
    show("the same with stride 64", ours("--stride", "64"), other, their_words(pages))

    def filled(lengths: np.ndarray, block_size: int, stride: int) -> Windows:
        """The harness's windows: the last one reaches back until it is full."""
        ours = cut(lengths, block_size, stride)
        end, scored = ours.start + ours.length, ours.start + ours.context
        start = np.minimum(ours.start, np.maximum(0, lengths[ours.document] - block_size))
        longest_first = np.argsort(start - end, kind="stable")
        return Windows(*(p[longest_first] for p in (ours.document, start, end - start, scored - start)))

    monkeypatch.setattr(scoring, "cut", filled)
    assert ours()["bits_per_byte"] == pytest.approx(other["bits_per_byte"], rel=1e-4)
