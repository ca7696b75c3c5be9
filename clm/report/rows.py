"""What the tables of a report say: rows of text from a run's record, each figure with its unit."""

import math
import shlex

from clm.data.store.words import NO_WORDS
from clm.evaluation import published
from clm.numbers import UNKNOWN, count, duration, fixed, large, number, shown, whole
from clm.runs.record import Json, RunRecord

Row = tuple[str, str, str]

MAIN_KEYS = (
    "dataset_name", "dataset_config_name", "train_file", "n_layer", "n_head", "n_embd", "block_size", "sampling",
    "vocab_size", "per_device_train_batch_size", "gradient_accumulation_steps", "global_batch_size", "max_steps",
    "num_train_epochs", "optim", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay",
    "weight_decay_epochs", "resid_pdrop", "bf16", "seed",
)  # fmt: skip


def lead(run: RunRecord) -> str:
    """What was trained, in a sentence."""
    recipe, parameters = run.recipe, run.parameters
    if not parameters:
        return "A run of a model whose shape isn't known."
    text = recipe.get("dataset_name") or "the author's own text"
    heads = f"{shown(recipe['n_head'])} heads, " if recipe.get("n_head") else ""
    return (
        f"A GPT-2 of {large(parameters)} parameters ({recipe['n_layer']} layers, {heads}{recipe['n_embd']} wide, a "
        f"context of {recipe['block_size']:,} tokens), trained from nothing on {text}."
    )


def state(run: RunRecord) -> str:
    """How far it is, and how it stands."""
    planned = f" of {run.total_steps:,}" if run.total_steps else ""
    word = {"finished": "Finished", "failed": "Failed", "stopped": "Stopped", "running": "Not finished"}
    return f"{word.get(run.state, 'Not known to be finished')}: {run.step:,}{planned} steps"


def tokens(run: RunRecord) -> int | None:
    """Tokens trained on so far."""
    return count(run.trained.get("train_tokens")) or (run.tokens_at(run.step) if run.step else None)


def seconds(run: RunRecord) -> float | None:
    """Time spent in training."""
    logged = [number(entry.get("elapsed_seconds")) for entry in run.log]
    return max((s for s in logged if s is not None), default=number(run.trained.get("train_runtime")))


def epochs(run: RunRecord) -> float | None:
    """Epochs of the training samples so far."""
    return next((number(entry.get("epoch")) for entry in reversed(run.log) if "epoch" in entry), None)


def published_rows(run: RunRecord) -> list[Json]:
    """Published results on the validation text, this run among them; none unless it is WikiText-103's."""
    if number(run.metrics.get("word_perplexity")) is None or not run.parameters:
        return []
    return published.rows_of_run(run.recipe, run.metrics, run.parameters)


def figures(run: RunRecord) -> list[Row]:
    """The run in a handful of numbers; those that it doesn't have are left out."""
    best = run.best
    at = f", best: step {best['step']:,}" if best else ""
    rows = [
        ("Validation loss", run.metrics.get("eval_loss"), 4, f"nats per token{at}"),
        ("Perplexity", run.metrics.get("perplexity"), 2, "per token"),
        ("Word perplexity", run.metrics.get("word_perplexity"), 1, "per word"),
        ("Bits per byte", run.metrics.get("bits_per_byte"), 4, "of UTF-8"),
    ]
    found = [(name, fixed(value, digits), note) for name, value, digits, note in rows if number(value) is not None]
    if tokens(run) is not None:
        done = epochs(run)
        found.append(("Trained on", large(tokens(run)), "tokens" + (f", {done:.2f} epochs" if done else "")))
    if seconds(run) is not None:
        speed = number(run.trained.get("tokens_per_second"))
        found.append(("Time", duration(seconds(run)), f"{speed:,.0f} tokens/s" if speed else "in training"))
    return found


def measures(run: RunRecord) -> list[Row]:
    """The validation text's measures with what they divide by, and two losses to hold them against."""
    metrics = run.metrics
    tokens, words, size = (
        f", {value:,} {unit}" if (value := count(metrics.get(f"eval_{unit}"))) else ""
        for unit in ("tokens", "words", "bytes")
    )
    rows = [
        ("validation loss", fixed(metrics.get("eval_loss")), f"nats per token{tokens}"),
        ("perplexity", fixed(metrics.get("perplexity"), 2), "per token of this model's tokenizer"),
        ("word perplexity", fixed(metrics.get("word_perplexity"), 1),
         f"per word{words}: white-space words and one for each line end"),
        ("bits per byte", fixed(metrics.get("bits_per_byte")), f"of UTF-8{size}"),
    ]  # fmt: skip
    rows = [row for row in rows if row[1] != UNKNOWN]
    if rows and "word_perplexity" not in metrics and metrics.get("eval_bytes"):
        rows.append(("word perplexity", "none", NO_WORDS))
    if rows and run.vocab_size:
        note = f"ln({run.vocab_size:,}) nats per token: every token is as likely as any other"
        rows.append(("uniform baseline", fixed(math.log(run.vocab_size)), note))
    if rows and number(run.data.get("unigram_loss")) is not None:
        note = "nats per token: knows only how often each token occurs"
        rows.append(("unigram baseline", fixed(run.data["unigram_loss"]), note))
    return rows


def text(run: RunRecord) -> Json:
    """The two splits side by side, and how long the training documents are; empty where data.json is missing."""
    splits = [split if isinstance(split := run.data.get(name), dict) else {} for name in ("train", "validation")]
    if not any(splits):
        return {}
    rows = [(key, [whole(split.get(key)) for split in splits]) for key in ("documents", "tokens", "words", "bytes")]
    rows.append(("bytes per token", [fixed(split.get("bytes_per_token"), 2) for split in splits]))
    lengths = [row for row in splits[0].get("lengths", []) if len(row) == 3 and None not in map(count, row)]
    most = max((documents for *_, documents in lengths), default=0)
    return {
        "rows": rows,
        "lengths": [(*row, round(100 * row[2] / most, 2)) for row in lengths] if most else [],
    }


def cost(run: RunRecord) -> list[tuple[str, str]]:
    """What training took."""
    kwh, of = number(run.energy.get("kwh")), ("processors", "gpus")
    by = " and ".join(f"{n} {name}" for name in of if (n := count(run.energy.get(name))))
    energy = UNKNOWN if kwh is None else f"{kwh:.4g} kWh, by the counters of the machine's {by or 'parts'}"
    return [("time in training", duration(seconds(run))), ("energy", energy)]


def machine_rows(run: RunRecord) -> list[tuple[str, str]]:
    """Hardware and versions."""
    about, versions = run.environment, run.environment.get("versions")
    cores = f"{shown(about['cpu_cores'])} core{'s' * (about['cpu_cores'] != 1)}, " if "cpu_cores" in about else ""
    memory = number(about.get("memory_gb"))
    named = [f"{name} {shown(version)}" for name, version in versions.items()] if isinstance(versions, dict) else []
    return [
        ("device", shown(about.get("device", UNKNOWN))),
        ("processes", shown(about.get("processes", UNKNOWN))),
        ("precision", shown(about.get("precision", UNKNOWN))),
        ("host", f"{cores}{memory:.1f} GB of memory" if memory is not None else UNKNOWN),
        ("system", shown(about.get("system", UNKNOWN))),
        ("versions", ", ".join(named) or UNKNOWN),
    ]


def command(run: RunRecord) -> str:
    """What starts the same run again, in another folder."""
    processes = count(run.environment.get("processes")) or 1
    launcher = f"--multi_gpu --num_processes {processes} " if processes > 1 else ""
    recipe, again = (shlex.quote(str(path)) for path in (run.folder / "recipe.json", f"{run.folder}-again"))
    return f"accelerate launch {launcher}run_clm.py \\\n    --config {recipe} \\\n    --output_dir {again}"


def history(explanation: Json) -> list[dict[str, str]]:
    """What was said at each evaluation: `step`, `loss`, `expected` band, `verdict`, `end` as forecast, and `found`."""
    rows = []
    for said in explanation.get("history") or []:
        band, made = said["band"], said["forecast"]
        rows.append({
            "step": whole(said["step"]),
            "loss": fixed(said["loss"]),
            "expected": f"{band[0]:.2f} to {band[1]:.2f}" if band else UNKNOWN,
            "verdict": said["verdict"],
            "end": f"{made['loss']:.2f} ({made['low']:.2f} to {made['high']:.2f})" if made else _no_forecast(said),
            "found": ", ".join(said["findings"]),
        })  # fmt: skip
    return rows


def _no_forecast(said: Json) -> str:
    return "it is the end" if said["step"] >= (said["total_steps"] or math.inf) else "can't say"


def samples(run: RunRecord) -> list[tuple[str, list[tuple[int, list[tuple[str, str]]]]]]:
    """(prompt, [(step, [(mode, text)])]), the newest step first; a step that was repeated counts once."""
    prompts: dict[str, dict[int, dict[str, str]]] = {}
    for sample in run.samples:
        steps = prompts.setdefault(sample["prompt"], {})
        steps.setdefault(sample["step"], {})[sample["mode"]] = sample["text"]
    return [
        (prompt, [(step, list(texts.items())) for step, texts in sorted(steps.items(), reverse=True)])
        for prompt, steps in prompts.items()
    ]
