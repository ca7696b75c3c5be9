"""A run's text as blocks, the steps that makes, and the run's identity."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainingArguments

from clm.config.recipe import Recipe
from clm.data.blocks import Blocks
from clm.data.prepare import Prepared, known_identity, open_text, prepare
from clm.data.steps import count_steps, total_steps
from clm.launch import processes
from clm.progress import Say
from clm.rollback import Rollback
from clm.training.checkpoint.identity import refuse_other_run, run_identity, sequences_per_step
from clm.training.schedule import endless_warmup


@dataclass(frozen=True)
class RunText:
    """What a run trains on, for how many optimizer steps, and what a checkpoint must share with it to be resumed."""

    data: Prepared
    blocks: Blocks
    total_steps: int
    identity: dict[str, Any]


def prepare_text(recipe: Recipe, args: TrainingArguments, earlier: Sequence[Path], say: Say) -> RunText:
    """Prepare the recipe's text, once on each machine, and say what an epoch is made of.

    Args:
        earlier: folders that must be of the same run. That is checked before any work, as far as it can be.

    Raises:
        UserError: the text is at fault, or a folder is another run's.
    """

    def identity(of_data: dict[str, Any]) -> dict[str, Any]:
        ours = run_identity(args, recipe.model, recipe.data, of_data)
        for folder in earlier:
            refuse_other_run(folder, ours)
        return ours

    with Rollback() as rollback:
        with processes.first_of_each_machine():  # machines share what they build through locks
            text = open_text(recipe.data, args.seed)
            identity(known_identity(recipe.data, text))
            data = prepare(recipe.data, text, recipe.flags.verify_data, say, rollback)
        PartialState().wait_for_everyone()  # what a rollback deletes must not be in use elsewhere
        blocks = Blocks(data.train, recipe.data.block_size, recipe.data.sampling, recipe.data.shift_blocks)
        ours = identity(data.identity)
    steps = _count_steps(args, blocks, say)
    if line := endless_warmup(recipe.training, steps):
        say(line)
    return RunText(data, blocks, steps, {**ours, "total_steps": steps})


def _count_steps(args: TrainingArguments, blocks: Blocks, say: Say) -> int:
    sequences = sequences_per_step(args)
    epoch = count_steps(len(blocks), sequences)
    steps = total_steps(epoch, args.max_steps, args.num_train_epochs)
    say(
        f"training text: {blocks.store.tokens:,} tokens in {blocks.store.totals.documents:,} documents; "
        f"{len(blocks):,} {blocks.sampling} of {blocks.block_size:,}, {blocks.unused_tokens:,} tokens left over"
    )
    say(
        f"steps: {steps:,} of {sequences:,} sequences ({sequences * blocks.block_size:,} tokens); an epoch has "
        f"{epoch.full:,} full ones{' and a short one' if epoch.short else ''}"
    )
    return steps
