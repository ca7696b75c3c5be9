"""A run's folder made by hand: 10 steps of 2 sequences of 8 tokens, every value of it readable off the page."""

import json
from pathlib import Path

RECIPE = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "n_inner": None, "block_size": 8, "sampling": "blocks",
    "tie_word_embeddings": True, "dataset_name": None, "train_file": "text.txt", "learning_rate": 0.01,
    "per_device_train_batch_size": 2, "output_dir": "runs/made",
}  # fmt: skip
SPLIT = {"tokens": 81, "documents": 3, "words": 40, "bytes": 243, "bytes_per_token": 3.0, "lengths": [[16, 31, 3]]}
SCORES = {"perplexity": 20.0855, "word_perplexity": 400.0, "bits_per_byte": 1.5,
          "eval_tokens": 100, "eval_words": 50, "eval_bytes": 300}  # fmt: skip


def make_run(folder: Path, steps: int = 10, total: int = 10, loss: float = 5.0, **recipe: object) -> Path:
    """A run at step `steps` of `total`: loss `loss` - step / 10, and an evaluation at every fifth."""
    folder.mkdir(parents=True)
    log = []
    for step in range(1, steps + 1):
        log.append({"step": step, "epoch": step / 5, "loss": loss - step / 10, "learning_rate": 0.01, "grad_norm": 1.0,
                    "elapsed_seconds": 2.0 * step, "tokens_per_second": 8.0, "memory_gb": 0.5})  # fmt: skip
        if step % 5 == 0:
            log.append({"step": step, "epoch": step / 5, "eval_loss": loss - step / 10 + 0.25, **SCORES})
    state = {"global_step": steps, "max_steps": total, "log_history": log}
    done = steps == total
    write(folder / ("." if done else f"checkpoint-{steps}") / "trainer_state.json", state)
    write(folder / "recipe.json", RECIPE | recipe)
    write(folder / "run_identity.json", {"sequences_per_step": 2, "text": "t", "tokenizer": "k", "vocab_size": 300})
    write(folder / "data.json", {"vocab_size": 300, "unigram_loss": 5.25, "train": SPLIT, "validation": SPLIT})
    write(folder / "environment.json", {"device": "a CPU", "processes": 1, "versions": {"torch": "2.13.0"}})
    status = "finished" if done else "running"
    write(folder / "run_status.json", {"state": status, "total_steps": total, "reason": None})
    if done:
        write(folder / "train_results.json", {"train_steps": steps, "train_tokens": 160, "train_loss": loss})
        write(folder / "eval_results.json", {"eval_loss": loss - steps / 10 + 0.25, **SCORES})
    return folder


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def explanation(words: str = "It is.") -> dict:
    """Every key that the page can show, with `words` as every text."""
    return {
        "verdict": {"label": "within", "sentence": words, "confidence": words},
        "forecast": {
            "final": {"loss": 3.5, "low": 3.25, "high": 3.75},
            "level": 0.8,
            "curve": [[10, 4, 4, 4], [20, 3.5, 3, 4]],
        },
        "band": [[1, 3, 6], [10, 3, 5]],
        "advice": [{"title": words, "gain_nats": 0.1, "cost": words, "text": words}],
        "findings": [{"name": words, "text": words}],
        "sections": [{"key": "seen", "title": words, "lines": [words]}],
    }
