"""A run's model on its validation text."""

import torch
from transformers import TrainingArguments

from clm.evaluation.scoring import score_store
from clm.launch import signals
from clm.training.text import RunText


def evaluate(model: torch.nn.Module, text: RunText, args: TrainingArguments) -> dict[str, float]:
    """The validation text's metrics, the same on every process; Stopped where a signal comes meanwhile."""
    batch, block_size = args.per_device_eval_batch_size, text.blocks.block_size
    score = score_store(model, text.data.validation, block_size, batch, signals.reason)
    if score is None:
        raise signals.stopped(agreed=True)
    return score.metrics()
