"""What a training run shows while it goes: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TrainingProgress(TrainerCallback):
    """Loss, learning rate, speed and time left, from the main process only."""

    def __init__(self, verdict: Callable[[list[dict[str, float]]], str | None] = lambda _: None) -> None:
        """Take what says in a line what the log so far means; it is said at each evaluation."""
        self._verdict = verdict
        self._bar: tqdm | None = None
        self._first_step, self._started = 0, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock, and the bar where somebody watches."""
        self._first_step, self._started = state.global_step, time.perf_counter()
        if state.is_world_process_zero:
            self._bar = tqdm(
                desc="training",
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                file=sys.stderr,
                disable=args.disable_tqdm or None,
                dynamic_ncols=True,
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """A line for each log of training or evaluation."""
        if self._bar is None or not logs:
            return
        if "loss" in logs:
            self._say(self._training_line(state, logs))
            self._bar.set_postfix_str(f"loss {logs['loss']:.3f}, {logs['tokens_per_second']:,.0f} tokens/s")
        elif "eval_loss" in logs:
            best = (
                ""
                if state.best_metric is None or logs["eval_loss"] < state.best_metric
                else f", best {state.best_metric:.4f}"
            )
            self._say(
                f"step {state.global_step:,}: validation loss {logs['eval_loss']:.4f}, perplexity "
                f"{logs['perplexity']:.2f}{best}"
            )
            if line := self._verdict(state.log_history):
                self._say(line)

    def _training_line(self, state: TrainerState, logs: dict[str, float]) -> str:
        steps, seconds = state.global_step - self._first_step, time.perf_counter() - self._started
        left = timedelta(seconds=round(seconds / steps * (state.max_steps - state.global_step)))
        parts = [
            f"step {state.global_step:,}/{state.max_steps:,}: loss {logs['loss']:.4f}",
            f"lr {logs['learning_rate']:.2e}",
            f"{logs['tokens_per_second']:,.0f} tokens/s",
            f"{left} left",
        ]
        if "grad_norm" in logs:
            parts.insert(1, f"grad {logs['grad_norm']:.2f}")
        if "mfu" in logs:
            parts.insert(-1, f"MFU {logs['mfu']:.0%}")
        return ", ".join(parts)

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
