"""What a recipe's loss is to be held against: its model, text, batch and schedule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clm.config.recipe import Recipe, load
from clm.data.description import DATA_FILE
from clm.data.prepare import DEFAULT_VOCAB_SIZE
from clm.data.steps import EpochSteps, count_samples, count_steps, tokens_trained, total_steps
from clm.errors import UserError
from clm.explain import training_text
from clm.explain.forecast import Facts, Law
from clm.explain.scaling import typical_unigram_entropy
from clm.explain.situation import Situation
from clm.explain.training_text import Text
from clm.model.size import parameters_of
from clm.numbers import count
from clm.runs.record import RunRecord
from clm.training.schedule import FOLLOWS_THE_LOSS, learning_rates, weight_decay


@dataclass(frozen=True)
class Setup:
    """A recipe, how much text it has, and how many processes share a step."""

    recipe: Recipe
    vocab_size: int
    sequences_per_step: int
    text: Text

    @property
    def block_size(self) -> int:
        """Tokens in a sample."""
        return self.recipe.data.block_size

    @property
    def tokens_per_step(self) -> int:
        """Labels in an optimizer step."""
        return self.sequences_per_step * self.block_size

    @cached_property
    def parameters(self) -> int:
        """All of the model's."""
        return parameters_of(self.recipe, self.vocab_size).total

    @property
    def non_embedding_parameters(self) -> int:
        """Without the token and position tables, as scaling laws count them."""
        return parameters_of(self.recipe, self.vocab_size).non_embedding

    def samples(self, sampling: str) -> int:
        """Samples in an epoch of `blocks` or `windows`."""
        return count_samples(self.text.tokens, self.block_size, sampling)

    def epoch(self, sampling: str) -> EpochSteps:
        """Optimizer steps in an epoch of such samples."""
        return count_steps(self.samples(sampling), self.sequences_per_step)

    @property
    def steps_in_epoch(self) -> float:
        """Optimizer steps of an epoch, a short last one counted as the part that it is."""
        return self.samples(self.recipe.data.sampling) / self.sequences_per_step

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        training = self.recipe.training
        epoch = self.epoch(self.recipe.data.sampling)
        return total_steps(epoch, training.get("max_steps", -1), training.get("num_train_epochs", 3.0))

    def tokens_at(self, step: int) -> int:
        """Tokens trained on by `step`."""
        samples = self.samples(self.recipe.data.sampling)
        return tokens_trained(step, samples, self.sequences_per_step, self.block_size)

    @property
    def peak_rate(self) -> float:
        """The highest learning rate of the schedule."""
        return self.recipe.training["learning_rate"]

    @property
    def optimizer(self) -> str | None:
        """Its family, `adamw`, `muon` or `soap`; None for one that no reference run has."""
        name = self.recipe.training.get("optim", "adamw")
        return Facts(None, None, self.total_steps, name).family

    @property
    def muon(self) -> bool:
        """Whether the matrices are trained by Muon, or by SOAP, which the references count with it."""
        return self.optimizer in ("muon", "soap")

    @property
    def dropout(self) -> float:
        """The largest of the three."""
        model = self.recipe.model
        return max(model.resid_pdrop, model.embd_pdrop, model.attn_pdrop)

    @property
    def weight_decay(self) -> float:
        """Its weight decay, 0 where there is none."""
        return weight_decay(self.recipe, self.steps_in_epoch)

    @property
    def unigram(self) -> float:
        """The unigram loss, measured, or else a guess by the vocabulary's size."""
        return self.text.unigram_loss or self.text.unigram_entropy or typical_unigram_entropy(self.vocab_size)

    @property
    def text_name(self) -> str | None:
        """The name by which the reference runs know this text, if they do."""
        return training_text.name_of(self.recipe)

    def law(
        self, total_steps: int | None = None, batch: float = 1.0, worth: float = 1.0, **training: Any
    ) -> Law | None:
        """The schedule's S1 and S2, or those of another length, batch (a factor) or training arguments.

        None where the schedule follows the loss.
        """
        keywords, steps = self.recipe.training | training, total_steps or self.total_steps
        if keywords.get("lr_scheduler_type") in FOLLOWS_THE_LOSS:
            return None
        in_a_pass = math.inf if self.text.never_repeated else self.text.tokens / self.tokens_per_step / batch
        parameters = self.non_embedding_parameters
        law = Law(lambda at: learning_rates(keywords, steps, at), steps, in_a_pass, worth, parameters)
        law.penalty = self.situation(law, batch).overfitting
        return law

    @cached_property
    def own_law(self) -> Law | None:
        """Of the schedule as it is."""
        return self.law()

    def situation(self, law: Law, batch: float = 1.0, **changes: Any) -> Situation:
        """What the expected loss depends on, with another batch (a factor) or other values where they are given."""
        values = {
            "text": self.text_name,
            "non_embedding_parameters": self.non_embedding_parameters,
            "unigram": self.text.unigram_loss or self.text.unigram_entropy,
            "bytes_per_token": self.text.bytes / self.text.tokens if self.text.bytes else None,
            "vocab_size": self.vocab_size,
            "block_size": self.block_size,
            "peak_rate": self.peak_rate,
            "tokens_per_step": round(self.tokens_per_step * batch),
            "dataset_tokens": None if self.text.never_repeated else self.text.tokens,
            "law": law,
            "muon": self.muon,
            "dropout": self.dropout,
            "weight_decay": self.weight_decay,
        }
        return Situation(**values | changes)


def of_recipe(recipe: Recipe, dataset_tokens: int | None = None) -> Setup:
    """The set-up of a recipe that hasn't run, on one process.

    Raises:
        UserError: nothing tells how long the text is, or it is too short for a block.
    """
    vocab_size = recipe.data.vocab_size or DEFAULT_VOCAB_SIZE
    text = training_text.of_recipe(recipe, vocab_size, dataset_tokens)
    return with_a_block(Setup(recipe, vocab_size, recipe.sequences_per_step(1), text))


def with_a_block(setup: Setup) -> Setup:
    """The set-up itself, whose text is long enough.

    Raises:
        UserError: it is too short for a block.
    """
    if setup.samples(setup.recipe.data.sampling) == 0:
        tokens, size = setup.text.tokens, setup.block_size
        raise UserError(f"{tokens:,} tokens are too few for one block of {size:,} and the token after it")
    return setup


def of_statistics(recipe: Recipe, statistics: Mapping[str, Any], sequences_per_step: int) -> Setup:
    """The set-up of a run that is about to start, whose text is known in `statistics` (data.json)."""
    return Setup(recipe, statistics["vocab_size"], sequences_per_step, training_text.of_statistics(statistics))


def of_run(run: RunRecord) -> Setup:
    """The set-up of a run, finished or not.

    Raises:
        UserError: its folder has no recipe, or nothing in it tells how long the text is.
    """
    if not run.recipe:
        raise UserError(f"{run.folder}: not a run's folder: it has no recipe.json")
    recipe = load(run.folder / "recipe.json")
    sequences = count(run.identity.get("sequences_per_step")) or recipe.sequences_per_step(1)
    text = training_text.of_statistics(run.data) or training_text.of_log(recipe, run.log, sequences)
    if text is None:
        raise UserError(f"{run.folder}: its log doesn't tell how long the text is, and {DATA_FILE} isn't there")
    return Setup(recipe, run.vocab_size or DEFAULT_VOCAB_SIZE, sequences, text)
