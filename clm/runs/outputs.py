"""What a run writes into its folder about itself: what it is made of at its start, what came out at its end."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from clm.config.recipe import Recipe
from clm.data.description import DATA_FILE
from clm.data.steps import tokens_trained
from clm.data.store.words import NO_WORDS
from clm.files import write_json
from clm.launch.environment import ENVIRONMENT_FILE, environment
from clm.training.checkpoint.identity import IDENTITY_FILE, sequences_per_step
from clm.training.trainer import ClmTrainer


def write_start(recipe: Recipe, identity: dict[str, Any], about_text: dict[str, Any], args: TrainingArguments) -> None:
    """Keep the resolved recipe, the run's identity, its text in figures, and its machine."""
    output_dir = Path(args.output_dir)
    write_json(output_dir / "recipe.json", recipe.resolved())
    write_json(output_dir / IDENTITY_FILE, identity)
    write_json(output_dir / DATA_FILE, about_text)
    write_json(output_dir / ENVIRONMENT_FILE, environment(args))


def write_results(trainer: ClmTrainer, trained: dict[str, float], metrics: dict[str, float]) -> dict[str, float]:
    """Keep the run's numbers and its logged history; the training's are returned.

    Args:
        trained: what the Trainer says of the training.
        metrics: what the validation text says of the model that is kept.
    """
    output_dir, results = Path(trainer.args.output_dir), _train_results(trainer, trained)
    write_json(output_dir / "train_results.json", results)
    words = {} if "word_perplexity" in metrics else {"left_out": {"word_perplexity": NO_WORDS}}
    write_json(output_dir / "eval_results.json", {**metrics, **words})
    write_json(output_dir / "all_results.json", {**results, **metrics, **words})
    write_json(output_dir / "trainer_state.json", asdict(trainer.state))
    return results


def _train_results(trainer: ClmTrainer, trained: dict[str, float]) -> dict[str, float]:
    """Speeds and shares are of this start, the rest of the whole run."""
    args, blocks = trainer.args, trainer.train_dataset
    tokens = partial(
        tokens_trained,
        samples=len(blocks),
        samples_per_step=sequences_per_step(args),
        block_size=blocks.block_size,
    )
    return {
        "train_loss": trained["train_loss"],
        "train_tokens": tokens(trainer.state.global_step),
        **trainer.throughput.results(trainer.state.global_step - trainer.first_step),
        "train_runtime": trained["train_runtime"],
        "train_steps": trainer.state.global_step,
        "epoch": trainer.state.epoch,
        "weight_decay": args.weight_decay,  # which weight_decay_epochs leaves open until the text is known
    }
