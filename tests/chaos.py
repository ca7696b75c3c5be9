"""Kills a small real run at random instants, lets it go on, and compares it with one that nobody disturbed.

`make chaos`, or `python -m tests.chaos --kills 50 --signal KILL --processes 1`. Half of the kills come while a
checkpoint is being written. The processes are forked from one that has the imports done, so a start takes a second.
"""

import argparse
import faulthandler
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import socket
import sys
import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from safetensors.torch import load_file

from clm.training.callbacks import samples as sample_log
from tests.tiny import ROOT, make_text, write_recipe

# An epoch has 14 steps, the last one short; dropout is on; a save comes with every second step.
RECIPE = {"max_steps": 80, "save_steps": 2, "eval_steps": 2, "logging_steps": 3, "warmup_steps": 30, "attn_pdrop": 0.1}
_GRACE = 5  # seconds that a process has to end once another one of its run was killed; torchrun gives it 30
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["run_clm"])
os.environ["PYTHONPATH"] = str(ROOT)  # where it finds that


@dataclass
class Outcome:
    """What a round of kills came to."""

    kills: int = 0
    starts: int = 0
    rounds: int = 0
    in_saves: int = 0
    faults: list[str] = field(default_factory=list)


def _child(folder: str, output_dir: str, environment: dict[str, str]) -> None:
    import run_clm
    from clm.launch import hardware

    os.chdir(folder)
    os.environ.update(environment)
    hardware.usable_cores = lambda: 1  # several threads would wait for each other on a busy machine
    with Path("log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.enable()
    sys.exit(run_clm.main(["--config", "tiny.json", "--output_dir", output_dir]))


def start(folder: Path, output_dir: str, processes: int) -> list[ForkServerProcess]:
    """A run as so many processes, as a launcher would start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environments = [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "ACCELERATE_USE_CPU": "true",
        }
        for rank in range(processes)
    ]
    if processes == 1:
        environments = [{}]
    run = [_forkserver.Process(target=_child, args=(str(folder), output_dir, env)) for env in environments]
    for process in run:
        process.start()
    return run


def ends(run: list[ForkServerProcess], seconds: float = 120) -> list[int | None]:
    """The processes' exit codes, None for one that hangs; where one ends before its time, the others are ended.

    That is what a launcher does: SIGTERM, and SIGKILL for those that it can't reach.
    """
    limit = time.monotonic() + seconds
    alive = list(run)
    while alive and time.monotonic() < limit:
        multiprocessing.connection.wait([process.sentinel for process in alive], limit - time.monotonic())
        alive = [process for process in alive if process.is_alive()]
        if alive and any(process.exitcode for process in run):
            _end_like_a_launcher(alive)
            break
    codes = [process.exitcode for process in run]
    for process in run:
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGABRT)  # its stack is in the log then
    return codes


def _end_like_a_launcher(processes: list[ForkServerProcess]) -> None:
    limit = time.monotonic() + _GRACE
    time.sleep(0.5)  # until it looks again
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join(max(0.0, limit - time.monotonic()))
        process.kill()
        process.join()


def kill(run: list[ForkServerProcess], output_dir: Path, number: int, chance: random.Random, outcome: Outcome) -> bool:
    """Send the signal at a random instant; False where the run was over first."""
    staged = chance.random() < 0.5
    if staged:  # in a save, though not in the first one that comes
        skipped, seen = chance.randrange(3), set()
        while len(seen) <= skipped and run[0].is_alive():
            seen.update(output_dir.glob(".checkpoint-*.tmp"))
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
    else:
        run[0].join(chance.choice([chance.uniform(0, 1), chance.uniform(1, 4)]))
    if not all(process.is_alive() for process in run):
        return False
    victims = run if number != signal.SIGKILL or chance.random() < 0.5 else [chance.choice(run)]
    for process in victims:
        os.kill(process.pid, number)
    outcome.kills += 1
    outcome.in_saves += staged
    return True


def disturb(folder: Path, kills: int, number: int, processes: int, seed: int = 0) -> Outcome:
    """Run, kill, run again until so many kills are spent and the run has ended, as often as that takes."""
    chance, outcome = random.Random(seed), Outcome()
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe(**RECIPE, **({"gradient_accumulation_steps": 2} if processes > 1 else {}))
        codes = ends(start(folder, "undisturbed", processes))
        if set(codes) != {0}:
            outcome.faults.append(f"the undisturbed run ended with {codes}: see {folder}/log.txt")
        while outcome.kills < kills and not outcome.faults:
            outcome.rounds += 1
            _round(folder, f"round-{outcome.rounds}", kills, number, processes, chance, outcome)
    return outcome


def _round(
    folder: Path, name: str, kills: int, number: int, processes: int, chance: random.Random, outcome: Outcome
) -> None:
    # -15 where it came while Python was starting, -9 for a process that waited for one that had stopped.
    stopped = {signal.SIGKILL: {-9, 74, 75}, signal.SIGTERM: {75, -15, -9}}[number]
    while not outcome.faults:
        run = start(folder, name, processes)
        outcome.starts += 1
        killed = outcome.kills < kills and kill(run, folder / name, number, chance, outcome)
        codes = ends(run)
        print(f"{name}: kill {outcome.kills}, exit codes {codes}", flush=True)
        if set(codes) == {0}:
            break
        if not killed or not set(codes) <= stopped | {0}:
            outcome.faults.append(f"{name}, start {outcome.starts}: exit codes {codes}: see {folder}/log.txt")
    if not outcome.faults:
        outcome.faults = [f"{name}: {line}" for line in differences(folder / "undisturbed", folder / name)]


def differences(undisturbed: Path, disturbed: Path) -> list[str]:
    """What two runs differ in: weights, bit by bit, every logged number that isn't a time, and samples of text."""
    weights, others = load_file(undisturbed / "model.safetensors"), load_file(disturbed / "model.safetensors")
    found = [f"weights differ: {name}" for name in weights if not weights[name].equal(others[name])]
    logs = [_numbers(json.loads((folder / "trainer_state.json").read_text())) for folder in (undisturbed, disturbed)]
    found += [f"logged: {one} is {other}" for one, other in zip(*logs, strict=False) if one != other]
    if len(logs[0]) != len(logs[1]):
        found.append(f"logged: {len(logs[0])} entries are {len(logs[1])}")
    results = [
        _numbers({"log_history": [json.loads((f / "all_results.json").read_text())]}) for f in (undisturbed, disturbed)
    ]
    if results[0] != results[1]:
        found.append(f"results: {results[0]} are {results[1]}")
    samples = [(folder / sample_log.FILE).read_text() for folder in (undisturbed, disturbed)]
    if samples[0] != samples[1]:
        found.append(f"{sample_log.FILE}: {len(samples[0].splitlines())} lines are {len(samples[1].splitlines())}")
    leftovers = [path.name for path in disturbed.glob(".*")]
    return found + [f"left behind: {name}" for name in leftovers]


def _numbers(state: dict) -> list[dict]:
    timed = ("runtime", "seconds", "per_second", "memory", "mfu", "tflops", "_share")  # of the machine, not of the run
    return [
        {key: value for key, value in entry.items() if not any(word in key for word in timed)}
        for entry in state["log_history"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    outcome = disturb(folder, args.kills, getattr(signal, f"SIG{args.signal}"), args.processes, args.seed)
    print(
        f"{outcome.kills} x SIG{args.signal}, {outcome.in_saves} of them in saves, {args.processes} process(es): "
        f"{outcome.starts} starts, {outcome.rounds} run(s) ended, {len(outcome.faults)} lost or different"
    )
    print("\n".join(outcome.faults))
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
