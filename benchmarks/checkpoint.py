"""What a checkpoint of the 124M model adds to training: saved beside it, saved blocking, and saved the stock way.

    python -m benchmarks.checkpoint [--rounds N] [--steps N] [--tokens N] [--threads N]

Rounds of the same steps, in turn without a save, with one beside training, and with one that training waits for:
the stock way (`save_pretrained`, `torch.save`: neither flushed nor sealed), and ours. What a save adds is the time
of its round less that of the round without one; medians. Writes benchmarks/results/checkpoint.json.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import GPT2Config
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import machine
from clm.cores import usable_cores
from clm.model.gpt2 import GPT2LMHeadModel
from clm.training.checkpoint.snapshot import distinct, save, write_safetensors
from clm.training.checkpoint.writer import CheckpointWriter

RESULT = Path(__file__).resolve().parent / "results" / "checkpoint.json"
WAYS = ("none", "beside", "stock", "blocking")


class Training:
    """GPT-2 of 124 M parameters, or as `config` has it, its AdamW, and one step of both."""

    def __init__(self, tokens: int, config: GPT2Config | None = None) -> None:
        config = config or GPT2Config()
        width = config.n_positions
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = GPT2LMHeadModel(config).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        size = max(1, tokens // width), min(tokens, width)
        self.ids = torch.randint(0, config.vocab_size, size, device=self.device)

    def step(self) -> None:
        self.model(self.ids, labels=self.ids).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def live(self) -> dict:
        return {"model": distinct(self.model), "optimizer": self.optimizer.state_dict()}


def write(folder: Path, tensors: dict) -> dict:
    return {
        "model.safetensors": write_safetensors(folder / "model.safetensors", tensors["model"]),
        "optimizer.pt": save(tensors["optimizer"], folder / "optimizer.pt"),
    }


def stock(training: Training, folder: Path) -> None:
    torch.serialization.set_crc32_options(True)  # as it is where nobody sets it
    training.model.save_pretrained(folder)
    torch.save(training.optimizer.state_dict(), folder / "optimizer.pt")


def measure(training: Training, writer: CheckpointWriter, folder: Path, way: str, steps: int) -> dict[str, float]:
    """Seconds of so many steps with one save before the first, and of the wait for it that was left at the end."""
    _synchronize()
    began = time.perf_counter()
    if way in ("beside", "blocking"):
        writer.start(1, training.live(), write, {}, set())
    if way == "blocking":
        writer.wait()
    if way == "stock":
        stock(training, folder / "stock")
    for _ in range(steps):
        training.step()
    _synchronize()
    stepped = time.perf_counter()
    if fault := writer.wait():
        raise SystemExit(fault)
    ended = time.perf_counter()
    shutil.rmtree(folder / "stock", ignore_errors=True)
    return {"seconds": ended - began, "waited": ended - stepped}


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="in a round; they must take longer than a save")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of training, on a CPU")
    parser.add_argument("--tokens", type=int, default=256, help="in a step")
    args = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(args.threads)
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-bench-", dir=Path.cwd()))
    training, writer = Training(args.tokens), CheckpointWriter(folder, None, None)
    rounds: dict[str, list] = {way: [] for way in WAYS}
    try:
        for way in WAYS:  # to warm up
            measure(training, writer, folder, way, 2)
        for number in range(args.rounds):
            for way in WAYS[number % 4 :] + WAYS[: number % 4]:
                rounds[way].append(measure(training, writer, folder, way, args.steps))
    finally:
        writer.close()
        shutil.rmtree(folder)
    report = {**summarize(rounds), **vars(args), "measured": rounds}
    known = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    known |= {"machine": machine(), f"{args.threads} threads train": report}
    RESULT.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    print("\n".join(f"{name:<28} {value:.3f}" for name, value in report.items() if isinstance(value, float)))


def summarize(rounds: dict[str, list]) -> dict[str, float]:
    """Medians over the rounds of what each way adds to the one without a save."""
    added = {
        way: statistics.median(
            with_save["seconds"] - without["seconds"]
            for with_save, without in zip(rounds[way], rounds["none"], strict=True)
        )
        for way in WAYS[1:]
    }
    return {
        "seconds_without": statistics.median(each["seconds"] for each in rounds["none"]),
        **{f"added_{way}": value for way, value in added.items()},
        "beside_to_stock": added["beside"] / added["stock"],
        "beside_to_blocking": added["beside"] / added["blocking"],
        "waited_at_the_end": statistics.median(each["waited"] for each in rounds["beside"]),
    }


if __name__ == "__main__":
    main()
