"""A small text, a recipe that trains on it in a second or two, and ways to run it."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState

import run_clm
from clm.training import muon

ROOT = Path(__file__).resolve().parent.parent

TINY = {
    "train_file": "text.txt",
    "document_separator": "line",
    "validation_split_percentage": 10,
    "vocab_size": 300,
    "block_size": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "attn_pdrop": 0.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 3,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "max_steps": 6,
    "eval_steps": 3,
    "save_steps": 3,
    "logging_steps": 1,
    "output_dir": "out",
    "bf16": False,
    "use_cpu": True,
}


def make_text(lines: int = 60, seed: int = 0) -> str:
    """Lines of made-up words, each a document of its own, of all lengths."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghij", k=chance.randint(1, 6))) for _ in range(80)]
    return "\n".join(" ".join(chance.choices(words, k=chance.randint(1, 40))) for _ in range(lines)) + "\n"


def write_recipe(name: str = "tiny.json", **changes: object) -> str:
    """TINY with `changes` as a recipe in the current folder; a change to None takes the key out."""
    recipe = {key: value for key, value in (TINY | changes).items() if value is not None}
    Path(name).write_text(json.dumps(recipe), "utf-8")
    return name


def run(*argv: str) -> int:
    """run_clm in this process, as if in a new one; its exit code."""
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    return run_clm.main(["--config", "tiny.json", *argv])


def launch(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """`accelerate launch WORDS` as a user types it, in the current folder."""
    command = [str(Path(sys.executable).parent / "accelerate"), "launch", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def start_processes(code: str, count: int, *argv: str) -> list[subprocess.Popen]:
    """So many processes of a run in the current folder, each doing `code`, as a launcher would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen([sys.executable, "-c", code, *argv], env={**os.environ, **shared, **own}, **how)
        for own in places
    ]


def cut_off(source: str, folder: str, step: int = 3) -> None:
    """Copy the run in `source` to `folder` as it was after the checkpoint of `step`."""
    shutil.copytree(source, folder)
    for name in ("run_status.json", "model.safetensors", "trainer_state.json", "all_results.json"):
        Path(folder, name).unlink()
    for path in Path(folder).glob("checkpoint-*"):
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)


def history(folder: str, key: str) -> list[float]:
    """A logged value at each step."""
    log = json.loads(Path(folder, "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in log if key in entry]


@contextmanager
def muon_in_fp32() -> Iterator[None]:
    """Muon's iterations in fp32: in bf16 another order of a sum is seen in the third digit of a step."""
    iterate = torch.optim._muon._zeropower_via_newtonschulz

    def exact(*args: object) -> torch.Tensor:
        with patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.float().clone()):
            return iterate(*args)

    of_shards = patch.object(torch.optim._muon, "_zeropower_via_newtonschulz", exact)  # torch's loop, under FSDP2
    with of_shards, patch.object(muon, "DTYPE", torch.float32):
        yield
