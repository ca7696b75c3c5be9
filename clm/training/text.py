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
from clm.data.sources.downloads import hub_cache
from clm.data.steps import count_steps, total_steps
from clm.errors import UserError
from clm.files import read_json_object
from clm.launch import acceleration, processes
from clm.model.teachers import Teacher, check_tokenizers, load_teachers
from clm.progress import Say
from clm.rollback import Rollback
from clm.training.checkpoint.identity import IDENTITY_FILE, refuse_other_run, run_identity, sequences_per_step
from clm.training.schedule import endless_warmup, weight_decay


@dataclass(frozen=True)
class RunText:
    """What a run learns from, for how many optimizer steps, and what a checkpoint must share with it to be resumed."""

    data: Prepared
    blocks: Blocks
    total_steps: int
    identity: dict[str, Any]
    teachers: Sequence[Teacher] = ()


def prepare_text(recipe: Recipe, args: TrainingArguments, earlier: Sequence[Path], say: Say) -> RunText:
    """Load the recipe's teachers, prepare its text, once on each machine, and say what an epoch is made of.

    Args:
        earlier: folders that must be of the same run. That is checked before any work, as far as it can be.

    Raises:
        UserError: the text or a teacher is at fault, or a folder is another run's.
    """
    teachers = _load_teachers(recipe)

    def identity(of_data: dict[str, Any]) -> dict[str, Any]:
        ours = run_identity(args, recipe.model, recipe.data, {**of_data, **_identity_of(teachers, recipe)})
        for folder in earlier:
            refuse_other_run(folder, ours)
        return ours

    with Rollback() as rollback:
        with processes.first_of_each_machine():  # machines share what they build through locks
            text = open_text(recipe.data, args.seed)
            identity(known_identity(recipe.data, text))
            data = prepare(recipe.data, text, recipe.flags.verify_data, say, rollback)
            check_tokenizers(teachers, data.tokenizer)
        PartialState().wait_for_everyone()  # what a rollback deletes must not be in use elsewhere
        blocks = Blocks(data.train, recipe.data.block_size, recipe.data.sampling, recipe.data.shift_blocks)
        ours = identity(data.identity)
    _introduce(teachers, recipe, ours, say)
    steps = _count_steps(args, blocks, say)
    _settle_decay(args, recipe, len(blocks) / sequences_per_step(args), say)
    if line := endless_warmup(recipe.training, steps):
        say(line)
    return RunText(data, blocks, steps, {**ours, "total_steps": steps}, teachers)


def _load_teachers(recipe: Recipe) -> list[Teacher]:
    named = recipe.run.teachers or []
    if not named:
        return []
    if not acceleration.is_whole():
        raise UserError(
            "teachers: they were never tried with FSDP or DeepSpeed: launch with --config_file "
            "recipes/accelerate/ddp.yaml"
        )
    names = [named] if isinstance(named, str) else named
    with processes.first_of_each_machine():
        return load_teachers(names, recipe.data.block_size, hub_cache(recipe.data.cache_dir))


def _identity_of(teachers: Sequence[Teacher], recipe: Recipe) -> dict[str, Any]:
    """What of them has to be the same for a checkpoint to go on; None as in checkpoints that know of no teachers."""
    decay_epochs = recipe.run.weight_decay_epochs
    return {
        **({} if decay_epochs is None else {"weight_decay": None}),  # it follows from the text
        "weight_decay_epochs": decay_epochs,
        "teachers": [teacher.weights for teacher in teachers] or None,
        "distillation_weight": recipe.run.distillation_weight if teachers else None,
    }


def _introduce(teachers: Sequence[Teacher], recipe: Recipe, identity: dict[str, Any], say: Say) -> None:
    """Say what is to be predicted, and which teachers may know the validation text."""
    if not teachers:
        return
    names, weight = ", ".join(teacher.name for teacher in teachers), recipe.run.distillation_weight
    say(f"target: {weight:g} x the mean probabilities of {names}; {1 - weight:g} x the labels")
    for teacher in teachers:
        text = read_json_object(Path(teacher.name) / IDENTITY_FILE).get("text")
        if text not in (None, identity["text"]):
            say(
                f"warning: {teacher.name} was trained on another text, or another part of this one; if that held some "
                "of the validation text, eval_loss is too low"
            )


def _settle_decay(args: TrainingArguments, recipe: Recipe, steps_in_epoch: float, say: Say) -> None:
    args.weight_decay = weight_decay(recipe, steps_in_epoch)
    if recipe.run.weight_decay_epochs:
        steps = round(1 / (args.learning_rate * args.weight_decay))
        epochs = f"{steps / steps_in_epoch:.3g} epochs"
        say(f"weight decay: {args.weight_decay:.3g}, so the weights average over the last {steps:,} steps ({epochs})")


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
