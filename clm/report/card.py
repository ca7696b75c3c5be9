"""The model card: README.md of a run's folder, and of its repository on the Hub. All of it comes from the folder."""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from clm.evaluation import published
from clm.explain.explanation import explanation_of
from clm.files import write_text
from clm.numbers import UNKNOWN, duration, fixed, number, whole
from clm.report import rows as page_rows
from clm.runs.record import Json, RunRecord, read_run

FILE = "README.md"
_UNITS = {
    "eval_loss": "nats per token",
    "perplexity": "per token of this model's tokenizer",
    "word_perplexity": "per word: white-space words and one for each line end",
    "bits_per_byte": "bits per byte of UTF-8",
}
_LIMITS = """\
It knows nothing but its training text, and has learned whatever bias, error and private detail is in it. It was made
neither to follow instructions nor to be right: it continues text, and what it says is not to be relied on. Nobody has
looked for bias in it, or filtered what it says."""


def write(run_dir: Path) -> None:
    """Write the card of a run that has its results."""
    write_text(run_dir / FILE, finished(run_dir, _local_name(run_dir)))


def for_repository(run_dir: Path, name: str) -> str:
    """The finished run's card as it is in its folder, under its name on the Hub unless somebody has edited it."""
    path = run_dir / FILE
    written = path.read_text("utf-8") if path.is_file() else None
    return finished(run_dir, name) if written in (None, finished(run_dir, _local_name(run_dir))) else written


def _local_name(run_dir: Path) -> str:
    return run_dir.resolve().name


def finished(run_dir: Path, name: str) -> str:
    """The card of a finished run as Markdown, its metadata as the Hub reads it.

    Args:
        name: what the model is called, and loaded by.
    """
    run = read_run(run_dir)
    sections = [
        page_rows.lead(run) + " " + _training(run),
        _section("On the validation text", _table(page_rows.measures(run)) + "\n\n" + _how_scored(run)),
        _section("Is that normal?", _verdict(run)),
        _section("Among published results", _comparison(run)),
        _section(
            "Training",
            "![Training and validation loss](loss_curve.png)\n\n[report.html](report.html) shows the whole run; it "
            "opens in a browser.\n\n" + _table([*_text(run), *page_rows.cost(run)]),
        ),
        _section("What it says", _samples(run)),
        _section("To use it", _usage(name)),
        _section("Limits and bias", _LIMITS),
        _section("To train it again", _reproduce(run)),
    ]
    return _card(run, name, _eval_results(run), sections)


def unfinished(run_dir: Path, name: str, step: int) -> str:
    """The card of the model of `step` in a run that goes on, or was stopped; it claims no results."""
    run = read_run(run_dir)
    planned = f" of {run.total_steps:,}" if run.total_steps else ""
    warning = (
        f"> **Not finished.** This is the model of step {step:,}{planned} of a training run that goes on or was "
        "stopped. It is not the run's result."
    )
    sections = [
        warning,
        page_rows.lead(run).replace("trained from nothing", "in training from nothing"),
        _section("To use it", _usage(name)),
        _section("Limits and bias", _LIMITS),
        _section("To train it", _reproduce(run)),
    ]
    return _card(run, name, None, sections)


def _card(run: RunRecord, name: str, results: list[EvalResult] | None, sections: list[str]) -> str:
    recipe = run.recipe
    data = ModelCardData(
        license=recipe.get("license") or "unknown",
        language=recipe.get("language"),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["gpt2", "causal-lm", *([] if results else ["unfinished"])],
        datasets=[recipe["dataset_name"]] if _on_the_hub(recipe) else None,
        metrics=list(_UNITS)[1:] if results else None,
        model_name=name,
        eval_results=results,
        base_tokenizer=recipe.get("tokenizer_path") or "trained on the training text",
    )
    return f"---\n{data.to_yaml()}\n---\n\n# {name}\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _table(rows: list[tuple[str, ...]]) -> str:
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in rows]
    width = max(map(len, cells))
    head = ["|" + " |" * width, "|" + "---|" * width]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in cells)])


def _fenced(text: str, language: str = "") -> str:
    """A block of code, its fence longer than any in `text`."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _training(run: RunRecord) -> str:
    took = duration(page_rows.seconds(run))
    epochs = fixed(page_rows.epochs(run), 2)
    return f"It saw {whole(page_rows.tokens(run))} tokens in {run.step:,} steps ({epochs} epochs), which took {took}."


def _how_scored(run: RunRecord) -> str:
    return (
        "Every token of the text is scored once, in fp32; every document starts from `<|endoftext|>`, which is "
        f"context and is not scored; windows of {run.recipe.get('block_size'):,} tokens do not overlap."
    )


def _verdict(run: RunRecord) -> str:
    explained = explanation_of(run)
    return explained["verdict"]["sentence"] if explained else ""


def _comparison(run: RunRecord) -> str:
    compared = page_rows.published_rows(run)
    if not compared:
        return ""
    return (
        "In the one unit that they share, perplexity per word. In the `<unk>` form rare words are replaced, so it "
        f"isn't quite the task that the raw form is.\n\n{published.table(compared)}"
    )


def _text(run: RunRecord) -> list[tuple[str, str]]:
    """What it was trained on."""
    recipe = run.recipe
    source = recipe.get("dataset_name") or "the author's own text"
    config = f", {recipe['dataset_config_name']}" if recipe.get("dataset_config_name") else ""
    revision = f", revision {recipe['dataset_revision']}" if recipe.get("dataset_revision") else ""
    counts = page_rows.text(run).get("rows", [])
    tokenizer = recipe.get("tokenizer_path") or "byte-level BPE, trained on the training text"
    return [
        ("text", f"{source}{config}{revision}"),
        *((name, f"{train} for training, {validation} for validation") for name, (train, validation) in counts),
        ("tokenizer", f"{tokenizer}; {whole(run.vocab_size)} ids"),
        ("tokens trained on", whole(page_rows.tokens(run))),
    ]


def _samples(run: RunRecord) -> str:
    """The kept model's continuations, where they were logged at its step; else the last ones."""
    best = run.best["step"] if run.best else None
    shown = []
    for prompt, steps in page_rows.samples(run):
        texts = dict(steps).get(best) or steps[0][1]
        shown += [f"[{mode}] {prompt}{text}" for mode, text in texts]
    return _fenced("\n\n".join(shown), "text") if shown else ""


def _usage(name: str) -> str:
    code = (
        f'from transformers import pipeline\n\nprint(pipeline("text-generation", model="{name}")("Once upon a time"))'
    )
    return _fenced(code, "python") + (
        "\n\nIt is a stock `GPT2LMHeadModel` with its tokenizer: `AutoModelForCausalLM` and `AutoTokenizer` load it."
    )


def _reproduce(run: RunRecord) -> str:
    processes = run.environment.get("processes")
    launcher = f"--multi_gpu --num_processes {processes} " if number(processes) and processes > 1 else ""
    command = f"accelerate launch {launcher}run_clm.py --config recipe.json --output_dir runs/again"
    rows = [row for row in page_rows.machine_rows(run) if row[1] != UNKNOWN]
    return "\n\n".join(
        [
            _fenced(command, "shell"),
            "with the versions below and the same text; `recipe.json` is:",
            _fenced(json.dumps(run.recipe, indent=2), "json"),
            _table(rows),
        ]
    )


def _on_the_hub(recipe: Json) -> bool:
    return bool(recipe.get("dataset_name")) and recipe["dataset_name"] != "python-docs"


def _eval_results(run: RunRecord) -> list[EvalResult]:
    recipe, metrics = run.recipe, run.metrics
    name = recipe.get("dataset_name") or "own text"
    of_dataset: dict[str, Any] = {
        "dataset_type": name if _on_the_hub(recipe) else "text",
        "dataset_name": name,
        "dataset_config": recipe.get("dataset_config_name"),
        "dataset_revision": recipe.get("dataset_revision"),
        "dataset_split": "validation",
    }
    return [
        EvalResult(
            task_type="text-generation",
            metric_type=key,
            metric_name=f"{key}, {unit}",
            metric_value=round(metrics[key], 4),
            **of_dataset,
        )
        for key, unit in _UNITS.items()
        if number(metrics.get(key)) is not None
    ]
