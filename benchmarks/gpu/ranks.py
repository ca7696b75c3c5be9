"""Two processes: on two cards by NCCL, or on one card as far as that goes; and one process by NCCL."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import torch

from benchmarks.gpu.commands import CommandFailed, environment, largest_difference, log_of, losses, train_here, write
from benchmarks.gpu.rows import Row, fact, failed, number
from benchmarks.gpu.setting import ROOT, Setting

STEPS = 5
# How near losses in fp32 are, summed in another order. Muon's iterations are in bf16, in stacks of another size.
CLOSE = {"adamw_torch_fused": 1e-4, "muon": 1e-3}


def check(setting: Setting) -> Iterator[Row]:
    """Prove that two processes train as one does, in fp32, with AdamW and with Muon, which they share out.

    gloo lets two processes share a card. NCCL doesn't, and then has to say so in a line, soon; a group of one process
    goes through NCCL all the same.
    """
    cards = 0 if setting.rehearsal else torch.cuda.device_count()
    trials = [("adamw_torch_fused", "gloo", 2), ("muon", "gloo", 2), ("muon", "nccl", 1)]
    if setting.rehearsal:
        trials = trials[1:2]
    elif cards > 1:
        trials.append(("muon", "nccl", 2))
    alone: dict[str, list[float]] = {}
    for optim, backend, count in trials:
        name = f"{optim}, {count} process{'es' * (count > 1)} by {backend}"
        try:
            if optim not in alone:
                alone[optim] = losses(train_here(_recipe(setting, optim, 1), setting.folder / f"alone-{optim}"))
            ended = _launch(setting, optim, backend, count, shared=cards < count)
        except CommandFailed as error:
            yield failed(name, str(error))
            continue
        if any(code for code, _ in ended):
            yield failed(name, "; ".join(f"exit code {code}: {words}" for code, words in ended if code))
            continue
        log = log_of(setting.folder / f"ranks-{optim}-{backend}-{count}")
        apart = largest_difference(losses(log), alone[optim])
        yield number(f"{name}: losses to one process's", apart, "nats", at_most=CLOSE[optim])
    if cards == 1:
        yield from _refused(setting)


def _refused(setting: Setting) -> Iterator[Row]:
    """Two processes on one card by NCCL: each ends by itself, and a line says why."""
    name = "2 processes on 1 card by nccl: refused in a line"
    try:
        ended = _launch(setting, "muon", "nccl", 2, shared=True)
    except CommandFailed as error:
        yield failed(name, str(error))
        return
    said = next((words for code, words in ended if code in (2, 74) and words.startswith("error:")), None)
    wrong = f"exit codes {[code for code, _ in ended]}, last words: {ended[0][1]}"
    yield fact(name, said is not None and all(code for code, _ in ended), said or wrong, "error: …, exit code 2 or 74")


def _recipe(setting: Setting, optim: str, processes: int, **keys: Any) -> dict[str, Any]:
    batch = 8 // processes
    return setting.recipe(
        setting.sizes.small_shape,
        optim=optim,
        per_device_train_batch_size=batch,
        global_batch_size=16,
        max_steps=STEPS,
        **{"bf16": False, "tf32": None if setting.rehearsal else False, **keys},
    )


def _launch(setting: Setting, optim: str, backend: str, count: int, shared: bool) -> list[tuple[int, str]]:
    """Exit code and last words of each process, started without a launcher, which would hide them.

    Raises:
        CommandFailed: one of them had not ended when the part had to go on.
    """
    name = f"ranks-{optim}-{backend}-{count}"
    recipe = write(_recipe(setting, optim, count, ddp_backend=backend), setting.folder / name)
    more = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    more["LOCAL_WORLD_SIZE"] = more["WORLD_SIZE"]
    if setting.rehearsal:
        more["ACCELERATE_USE_CPU"] = "true"
    elif shared:  # as a scheduler gives each process its card
        more["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    logs = [setting.folder / f"{name}.{rank}.log" for rank in range(count)]
    ranks = []
    try:
        for rank, log in enumerate(logs):
            of_rank = environment(**more, RANK=str(rank), LOCAL_RANK=str(rank))
            command = [sys.executable, "run_clm.py", "--config", recipe]
            with log.open("wb") as out:
                ranks.append(subprocess.Popen(command, cwd=ROOT, env=of_rank, stdout=out, stderr=out))
        patience = max(1.0, min(600.0 if setting.rehearsal else 60.0, setting.left() - 2))
        for process in ranks:
            process.wait(patience)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"no end after {patience:.0f} s: {_last_words(logs[0])}") from None
    finally:
        for process in ranks:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    return [(process.returncode, _last_words(log)) for process, log in zip(ranks, logs, strict=True)]


def _last_words(log: Any) -> str:
    """The line that says what is wrong, else the last one."""
    lines = log.read_text("utf-8", "replace").strip().splitlines() or ["nothing was printed"]
    return next((line for line in reversed(lines) if line.startswith("error:")), lines[-1])[:300]


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
