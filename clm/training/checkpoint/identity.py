"""Which run a checkpoint belongs to."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clm.config.recipe import DataOptions, ModelOptions
from clm.errors import UserError
from clm.files import read_json_object

if TYPE_CHECKING:  # takes seconds to import, and reading a run has no use for it
    from transformers import TrainingArguments

IDENTITY_FILE = "run_identity.json"
# TrainingArguments that shape the weights. What may differ from start to start isn't here.
_SAME_TRAINING = (
    "seed",
    "data_seed",
    "optim",
    "optim_args",
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
)


def sequences_per_step(args: TrainingArguments) -> int:
    """Samples in an optimizer step, over all processes."""
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size


def run_identity(
    args: TrainingArguments, model: ModelOptions, options: DataOptions, data: dict[str, Any]
) -> dict[str, Any]:
    """All that has to be the same for a checkpoint to go on: model, data, seed, optimizer and effective batch.

    Args:
        data: names for text, tokenizer and teachers, equal for equal ones.
    """
    training = {key: getattr(args, key) for key in _SAME_TRAINING}
    shifted = options.sampling == "blocks" and options.shift_blocks
    return {
        **vars(model),
        "block_size": options.block_size,
        "sampling": "blocks with shift_blocks" if shifted else options.sampling,
        **{key: value.value if isinstance(value, Enum) else value for key, value in training.items()},
        "sequences_per_step": sequences_per_step(args),
        **data,
    }


def refuse_other_run(folder: Path, identity: dict[str, Any]) -> None:
    """Stop where the checkpoint in `folder` was made by another run than `identity` describes.

    Raises:
        UserError: it names each key that differs, with both values.
    """
    theirs = read_json_object(folder / IDENTITY_FILE)
    differing = [key for key in identity if theirs.get(key) != identity[key]]
    if differing:
        shown = "; ".join(f"{key} was {theirs.get(key)!r}, is {identity[key]!r}" for key in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UserError(
            f"{folder} belongs to a different run: {shown}{more}; set another output_dir, or undo the change to go on"
        )
