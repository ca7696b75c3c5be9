"""The model card: README.md of a run's folder, and of its repository on the Hub."""

import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from clm.evaluation import published

_UNITS = {
    "eval_loss": "nats per token",
    "perplexity": "per token of this model's tokenizer",
    "word_perplexity": "per word: white-space words and one for each line end",
    "bits_per_byte": "bits per byte of UTF-8",
}


def model_card(
    name: str, recipe: Mapping[str, Any], trained: Mapping[str, float], metrics: Mapping[str, float], parameters: int
) -> str:
    """The card of a finished run as Markdown, its metadata as the Hub reads it.

    Args:
        name: what the model is called.
        recipe: the resolved recipe.
        trained: train_results.json.
        metrics: eval_results.json.
        parameters: of the model.
    """
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        model_name=name,
        datasets=[recipe["dataset_name"]] if _on_the_hub(recipe) else None,
        eval_results=_eval_results(recipe, metrics),
    )
    rows = "\n".join(f"| {key} | {metrics[key]:.4f} | {unit} |" for key, unit in _UNITS.items())
    text = recipe["dataset_name"] or "the author's own text"
    about = f"\n{recipe['about']}\n" if recipe.get("about") else ""
    return f"""---
{data.to_yaml()}
---

# {name}

A GPT-2 of {parameters:,} parameters ({recipe["n_layer"]} layers, {recipe["n_head"]} heads, {recipe["n_embd"]} wide,
context of {recipe["block_size"]:,} tokens), trained from nothing on {text}: {trained["train_tokens"]:,} tokens in
{trained["train_steps"]:,} steps ({trained["epoch"]:.2f} epochs).

## On the validation text

| | | |
|---|---|---|
{rows}

{metrics["eval_tokens"]:,} tokens, {metrics["eval_words"]:,} words, {metrics["eval_bytes"]:,} bytes; every document
starts from `<|endoftext|>`, which is not scored.
{_comparison(recipe, metrics, parameters)}
![Training and validation loss](loss_curve.png)

[report.html](report.html) shows the whole run; it opens in a browser.

## To use it

```python
from transformers import pipeline

print(pipeline("text-generation", model="{name}")("Once upon a time"))
```

It knows nothing but its training text, has learned whatever bias is in it, and was made neither to follow instructions
nor to be right.

## The recipe
{about}
```json
{json.dumps(recipe, indent=2)}
```
"""


def _comparison(recipe: Mapping[str, Any], metrics: Mapping[str, float], parameters: int) -> str:
    compared = published.rows_of_run(recipe, metrics, parameters)
    if not compared:
        return ""
    return f"""
## Beside published results

In the one unit that they share, perplexity per word. In the `<unk>` form rare words are replaced, so it isn't quite the
task that the raw form is.

{published.table(compared)}
"""


def _on_the_hub(recipe: Mapping[str, Any]) -> bool:
    return bool(recipe["dataset_name"]) and recipe["dataset_name"] != "python-docs"


def _eval_results(recipe: Mapping[str, Any], metrics: Mapping[str, float]) -> list[EvalResult]:
    name = recipe["dataset_name"] or "own text"
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=name if _on_the_hub(recipe) else "text",
            dataset_name=name,
            dataset_config=recipe["dataset_config_name"],
            dataset_split="validation",
            metric_type=key,
            metric_value=round(metrics[key], 4),
        )
        for key in _UNITS
    ]
