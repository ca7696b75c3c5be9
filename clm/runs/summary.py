"""The end of a run on one screen: what it scored, what that is to be held against, a sample, and where it all lies."""

import math
from pathlib import Path

from transformers import TrainerState

from clm.data.prepare import Prepared
from clm.data.store.words import NO_WORDS
from clm.model.generation import Sample


def table(
    trained: dict[str, float], metrics: dict[str, float], unigram: float, vocab_size: int, state: TrainerState
) -> str:
    """A short table of the run's numbers, each with its unit.

    Args:
        unigram: what a unigram model of the same tokens scores, nats a token.
    """
    best = f" (best: step {state.best_global_step:,})" if state.best_global_step else ""
    bits = ("bits per byte", f"{metrics['bits_per_byte']:.4f}", f"{metrics['eval_bytes']:,} bytes")
    perplexities = [("perplexity", f"{metrics['perplexity']:.2f}", "per token of this tokenizer")]
    if "word_perplexity" in metrics:
        unit = f"per word, {metrics['eval_words']:,} words"
        measures = [*perplexities, ("word perplexity", f"{metrics['word_perplexity']:.2f}", unit), bits]
    else:
        measures = [bits, *perplexities, ("word perplexity", "none", NO_WORDS)]
    rows = [
        ("validation loss", f"{metrics['eval_loss']:.4f}", f"nats per token{best}"),
        ("  uniform baseline", f"{math.log(vocab_size):.4f}", f"ln({vocab_size:,})"),
        ("  unigram baseline", f"{unigram:.4f}", "knows only how often each token occurs"),
        *measures,
        ("training loss", f"{trained['train_loss']:.4f}", f"mean over {trained['train_steps']:,} steps"),
        ("trained on", f"{trained['train_tokens']:,}", f"tokens, {trained['epoch']:.2f} epochs"),
        ("speed", f"{trained['tokens_per_second']:,.0f}", f"tokens/s, {trained['train_runtime']:.0f} s in all"),
    ]
    left, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n" + "\n".join(f"{name:<{left}}  {value:>{middle}}  {unit}" for name, value, unit in rows)


def samples(continued: list[Sample]) -> str:
    """Each prompt and how the model goes on, a paragraph each."""
    said = (f"[{sample.mode}] {sample.prompt}{sample.text}" for sample in continued)
    return "\n" + "\n".join(" ".join(line.split()) for line in said)


def places(output_dir: Path, data: Prepared) -> str:
    """Where everything was written, and how to use it."""
    rows = [
        ("model", f"{output_dir} (AutoModelForCausalLM, AutoTokenizer and pipeline load this folder)"),
        ("results", f"{output_dir / 'all_results.json'}"),
        ("report", f"{output_dir / 'report.html'} (open it in a browser)"),
        ("checkpoints", f"{output_dir}/checkpoint-*"),
        ("tokenizer", data.tokenizer_origin),
        ("tokens", f"{data.train.folder}, {data.validation.folder}"),
    ]
    return "\n" + "\n".join(f"{name:<11}  {place}" for name, place in rows)
