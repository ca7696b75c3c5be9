"""A fresh model and the Trainer that will train or resume it."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from clm.config.recipe import Recipe
from clm.launch import hardware, processes
from clm.model.distillation import Teachers
from clm.model.generation import DEFAULT_PROMPTS
from clm.model.gpt2 import fresh_model
from clm.training import tryout
from clm.training.callbacks.energy import EnergyMeter
from clm.training.callbacks.progress import TrainingProgress
from clm.training.callbacks.samples import SampleLog
from clm.training.checkpoint.writer import Saved
from clm.training.text import RunText
from clm.training.throughput import throughput_of
from clm.training.trainer import ClmTrainer


def make_trainer(
    recipe: Recipe,
    args: TrainingArguments,
    text: RunText,
    evaluate: Callable[[torch.nn.Module], dict[str, float]],
    verdict: Callable[[Sequence[Mapping[str, Any]]], str | None],
    resume_from: Path | None = None,
    saved: Saved = None,
) -> ClmTrainer:
    """Build them.

    Args:
        evaluate: model -> the validation text's metrics, the same on every process.
        verdict: the log so far -> a line on whether its losses are normal, to be shown with each evaluation.
        resume_from: the checkpoint that the Trainer will be told to resume from.
        saved: called after each save.
    """
    set_seed(args.seed)
    _shares_in_steps(args, text.total_steps)
    model = fresh_model(recipe.model, text.blocks.block_size, text.data.tokenizer)
    if text.teachers:
        on_device = [teacher.model.to(args.device) for teacher in text.teachers]
        model.teachers = Teachers(on_device, recipe.run.distillation_weight)
    model.liger, args.use_liger_kernel = args.use_liger_kernel, False  # the stock Trainer would exchange more
    lines = tryout.settle(model, args, recipe, resume_from, text.total_steps)
    if lines and processes.main_process():
        print("\n".join(lines), flush=True)
    trainer = ClmTrainer(
        model=model,
        args=args,
        train_dataset=text.blocks,
        evaluate_fn=evaluate,
        identity=text.identity,
        resume_from=resume_from,
        saved=saved,
        throughput=throughput_of(model, args),
        loss_spike=recipe.run.loss_spike,
        eval_dataset=text.data.validation,
        processing_class=text.data.tokenizer,
        callbacks=[
            TrainingProgress(verdict),
            SampleLog(text.data.tokenizer, recipe.run.prompts or DEFAULT_PROMPTS),
            EnergyMeter(),
        ],
    )
    if args.tf32 is False:
        hardware.set_tf32(False)  # the Trainer's accelerator turns it on where it compiles in fp32
    if recipe.run.early_stopping_patience is not None:
        stopping = EarlyStoppingCallback(recipe.run.early_stopping_patience, recipe.run.early_stopping_threshold)
        trainer.add_callback(stopping)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _shares_in_steps(args: TrainingArguments, total_steps: int) -> None:
    """A share of all steps as their number, which checkpoints hold: the Trainer warns where the two look different."""
    for name in ("logging_steps", "eval_steps", "save_steps"):
        share = getattr(args, name)
        if share is not None and share < 1:
            setattr(args, name, math.ceil(share * total_steps))
