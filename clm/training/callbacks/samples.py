"""The run's log of samples: the same prompts continued at every evaluation, in output_dir/samples.jsonl."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from clm.files import write_text
from clm.model.generation import continue_prompts
from clm.numbers import count

FILE = "samples.jsonl"
NEW_TOKENS = 40


class SampleLog(TrainerCallback):
    """Writes, from the main process, a line {"step", "prompt", "mode", "text"} for each continuation.

    A run that resumes from a checkpoint keeps the lines up to its step, so that its log ends as an undisturbed
    run's. torch's random state is left as it was.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> None:
        self._tokenizer, self._prompts = tokenizer, prompts
        self._entries: list[dict[str, Any]] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take up what is there of this run."""
        if state.is_world_process_zero and state.global_step:
            self._entries = [e for e in read(Path(args.output_dir)) if e["step"] <= state.global_step]

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: Any
    ) -> None:
        """Continue the prompts, and write the log anew, whole."""
        if not state.is_world_process_zero:
            return
        self._entries = [e for e in self._entries if e["step"] < state.global_step]  # eval_on_start, after a resume
        for sample in continue_prompts(model, self._tokenizer, self._prompts, NEW_TOKENS):
            self._entries.append({"step": state.global_step, **asdict(sample)})
        write_text(Path(args.output_dir) / FILE, "".join(json.dumps(e) + "\n" for e in self._entries))


def read(output_dir: Path) -> list[dict[str, Any]]:
    """The log's entries, oldest first; none where there is no log that can be read, or it has something else in it."""
    try:
        entries = [json.loads(line) for line in (output_dir / FILE).read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return entries if all(isinstance(e, dict) and count(e.get("step")) is not None for e in entries) else []
