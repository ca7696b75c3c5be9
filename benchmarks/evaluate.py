"""What scoring costs beside the forward passes alone: the same batches through both, in turn.

    python -m benchmarks.evaluate [--rounds N] [--layers L] [--width W] [--vocab_size V] [--block_size B] [--tokens T]

Prints medians and writes benchmarks/results/evaluate.json. The forward pass is the model's own, to its logits, of the
very batches that `python -m clm evaluate` makes of disjoint blocks; scoring also builds the batches, takes the losses
and sums them up. Ids are drawn at random: what they are doesn't change the work.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from benchmarks.machine import machine
from benchmarks.memory import peak_rss
from clm.evaluation.forward import from_logits, probe
from clm.evaluation.scoring import Documents, document_nats, precision
from clm.evaluation.text import EncodedText

RESULT = Path(__file__).resolve().parent / "results" / "evaluate.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rounds", 3), ("layers", 4), ("width", 256), ("vocab_size", 8000), ("block_size", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--batch_size", type=int, default=8)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, text = model_of(args).to(device), text_of(args)
    ways = {
        "forward passes alone": (forward_alone(model), args.block_size),
        "disjoint blocks": (probe(model, "it"), args.block_size),
        "disjoint blocks, by way of logits": (from_logits(model), args.block_size),
        "stride of half a block": (probe(model, "it"), args.block_size // 2),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, (losses, stride) in ways.items():
            seconds[way].append(timed(losses, text, args, stride, device))
            print(f"{way:34} {seconds[way][-1]:6.2f} s", flush=True)
    alone = statistics.median(seconds["forward passes alone"])
    times = {way: statistics.median(taken) / alone for way, taken in seconds.items()}
    print("\n| | median s | tokens/s | times the forward passes |\n|---|---|---|---|")
    for way, taken in seconds.items():
        median = statistics.median(taken)
        print(f"| {way} | {median:.2f} | {args.tokens / median:,.0f} | {times[way]:.2f} |")
    verdict = "yes" if times["disjoint blocks"] <= 1.3 else "NO"
    print(f"\ndisjoint blocks within 1.3 times: {verdict}; peak memory {peak_rss() / 1e6:,.0f} MB")
    report = {"options": vars(args), "device": str(device), "seconds": seconds, "times": times,
              "peak_rss": peak_rss(), "machine": machine()}  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def model_of(args: argparse.Namespace) -> transformers.GPT2LMHeadModel:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=args.vocab_size, n_positions=args.block_size, n_embd=args.width, n_layer=args.layers,
        n_head=max(1, args.width // 64), bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def text_of(args: argparse.Namespace) -> Documents:
    """Documents of all lengths, 3,600 tokens each in the mean, as WikiText's are."""
    chance = np.random.default_rng(0)
    ends = np.unique(np.append(chance.integers(1, args.tokens, args.tokens // 3600), args.tokens))
    lengths = np.diff(ends, prepend=0)
    ids = EncodedText(chance.integers(0, args.vocab_size, args.tokens, np.uint32), lengths, lengths, lengths)
    return Documents(ids, ids.starts, lengths, 0)


def forward_alone(model: transformers.GPT2LMHeadModel) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def logits_only(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        model(inputs.to(model.device), use_cache=False)
        return torch.zeros(labels.shape)

    return logits_only


def timed(losses: Callable, text: Documents, args: argparse.Namespace, stride: int, device: torch.device) -> float:
    started = time.perf_counter()
    with precision(device):
        document_nats(losses, text, args.block_size, stride, args.batch_size, device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
