"""Training as a user of the stock stack has it; `python -m benchmarks.train_standard` measures one way once.

`trainer`: GPT2LMHeadModel under the Trainer with its default precision, loss and optimizer. `compiled`: the same model
in a plain PyTorch loop, fp32, under torch.compile, with the fused AdamW.
"""

import argparse
import json
import tempfile
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

from benchmarks.memory import peak_rss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["trainer", "compiled"])
    parser.add_argument("shape", type=json.loads, help="GPT2Config's n_layer, n_head, n_embd, vocab_size, n_positions")
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int, help="timed ones; one more goes before them")
    args = parser.parse_args()
    set_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(**args.shape, **ends, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    blocks = torch.randint(config.vocab_size, (args.batch * (args.steps + 1), config.n_positions))
    model = GPT2LMHeadModel(config)
    seconds = {"trainer": by_trainer, "compiled": by_loop}[args.way](model, blocks, args.batch, args.steps)
    print(json.dumps({"seconds": seconds, "peak_rss": peak_rss()}))


class Stopwatch(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.times.append(time.perf_counter())


def by_trainer(model: GPT2LMHeadModel, blocks: torch.Tensor, batch: int, steps: int, **options: object) -> list[float]:
    """Seconds of each step after the first; `options` are TrainingArguments' that aren't the stock ones."""
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps + 1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **options,
        )
        samples = [{"input_ids": block, "labels": block} for block in blocks]
        Trainer(model=model, args=args, train_dataset=samples, callbacks=[stopwatch]).train()
    return [after - before for before, after in zip(stopwatch.times, stopwatch.times[1:], strict=False)]


def by_loop(model: GPT2LMHeadModel, blocks: torch.Tensor, batch: int, steps: int) -> list[float]:
    """Seconds of each step after the first, which compiles."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    compiled = torch.compile(model)
    seconds = []
    for ids in blocks.split(batch):
        started = time.perf_counter()
        compiled(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


if __name__ == "__main__":
    main()
