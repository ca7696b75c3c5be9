"""The real command: in a process of its own, as a user types it; or its `main` in this one, which saves the imports."""

import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import ROOT, Setting


class CommandFailed(Exception):
    """A command that ended otherwise than it should, with its last words."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    seconds: float
    said: str
    errors: str

    @property
    def last_words(self) -> str:
        """The last line on stderr, or else on stdout."""
        lines = (self.errors.strip() or self.said.strip()).splitlines()
        return lines[-1][:300] if lines else "nothing was printed"


def environment(**more: str) -> dict[str, str]:
    """That of this process, without the network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **more}


def call(words: Sequence[str], setting: Setting, **more: str) -> Done:
    """Run a program of Python's environment at the root of the repository.

    Raises:
        CommandFailed: it took longer than the part has left.
    """
    began = time.monotonic()
    try:
        done = subprocess.run(
            list(words), cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=setting.left()
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"no end after {error.timeout:.0f} s: {' '.join(words)[:200]}") from None
    return Done(done.returncode, time.monotonic() - began, done.stdout, done.stderr)


def train_apart(setting: Setting, recipe: dict[str, Any], output_dir: Path) -> float:
    """`accelerate launch run_clm.py --config RECIPE`; the seconds that it took.

    Raises:
        CommandFailed: it didn't end with exit code 0.
    """
    if setting.in_process:
        began = time.monotonic()
        train_here(recipe, output_dir)
        return time.monotonic() - began
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "run_clm.py"]
    done = call([*launch, "--config", write(recipe, output_dir)], setting)
    if done.code:
        raise CommandFailed(f"exit code {done.code}: {done.last_words}")
    return done.seconds


def write(recipe: dict[str, Any], output_dir: Path) -> str:
    """A recipe as a file beside its run."""
    file = output_dir.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**recipe, "output_dir": str(output_dir)}), "utf-8")
    return str(file)


def train_here(recipe: dict[str, Any], output_dir: Path) -> list[dict[str, Any]]:
    """Run the command's `main` in this process as if in a new one; what it logged.

    What TrainingArguments and accelerate leave behind, in the environment and in classes, would be the next one's.

    Raises:
        CommandFailed: its exit code wasn't 0.
    """
    from accelerate.state import AcceleratorState

    import run_clm  # seconds of imports, which a part without training doesn't need

    before, errors = dict(os.environ), io.StringIO()
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with redirect_stderr(errors):
            code = run_clm.main(["--config", write(recipe, output_dir)])
    finally:
        os.environ.clear()
        os.environ.update(before)
        print(errors.getvalue(), file=sys.stderr, end="")
    if code:
        raise CommandFailed(f"exit code {code}: {Done(code, 0.0, '', errors.getvalue()).last_words}")
    return log_of(output_dir)


def log_of(output_dir: Path) -> list[dict[str, Any]]:
    """A run's logged history."""
    return _state_of(output_dir)["log_history"]


def micro_batch_of(output_dir: Path) -> int:
    """Sequences of a run's micro-batches at its end, which a lack of memory may have made fewer."""
    return _state_of(output_dir)["train_batch_size"]


def _state_of(output_dir: Path) -> dict[str, Any]:
    return json.loads((output_dir / "trainer_state.json").read_text("utf-8"))


def losses(log: list[dict[str, Any]]) -> list[float]:
    """The training losses of a log, in nats a token."""
    return [entry["loss"] for entry in log if "loss" in entry]


def largest_difference(some: Sequence[float], others: Sequence[float]) -> float:
    """Of two curves step by step; infinite where they aren't equally long, or have no point."""
    if len(some) != len(others) or not some:
        return math.inf
    return max(abs(one - other) for one, other in zip(some, others, strict=True))
