"""What a recipe's loss is to be held against: its model, text, batch and schedule."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clm.config.recipe import Recipe
from clm.data import text_size
from clm.data.blocks import EpochSteps, count_samples, count_steps, tokens_trained
from clm.data.prepare import DEFAULT_VOCAB_SIZE
from clm.errors import UserError
from clm.explain.expected import Situation
from clm.explain.forecast import Law
from clm.explain.scaling import typical_unigram_entropy, unigram_entropy
from clm.plan import plan
from clm.training.optim import MUON
from clm.training.schedule import FOLLOWS_THE_LOSS, learning_rates

# Words of well-known training splits, as WikiText's published figures count them: (dataset, configuration) -> words.
KNOWN_WORDS = {("Salesforce/wikitext", "wikitext-103-raw-v1"): 103_227_021}


@dataclass(frozen=True)
class Text:
    """What is known of a training text. Entropies in nats a token; None is not measured."""

    tokens: int
    tokens_from: str
    words: int | None = None
    bytes: int | None = None
    unigram_entropy: float | None = None
    unigram_loss: float | None = None  # on the validation text


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
        return plan.count_parameters(self.recipe, self.vocab_size)

    @property
    def non_embedding_parameters(self) -> int:
        """Without the token and position tables, as scaling laws count them."""
        return self.parameters - plan.embedding_parameters(self.recipe, self.vocab_size)

    def samples(self, sampling: str) -> int:
        """Samples in an epoch of `blocks` or `windows`."""
        return count_samples(self.text.tokens, self.block_size, sampling)

    def epoch(self, sampling: str) -> EpochSteps:
        """Optimizer steps in an epoch of such samples."""
        return count_steps(self.samples(sampling), self.sequences_per_step)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        training = self.recipe.training
        epoch = self.epoch(self.recipe.data.sampling)
        return plan.total_steps(epoch, training.get("max_steps", -1), training.get("num_train_epochs", 3.0))

    def tokens_at(self, step: int) -> int:
        """Tokens trained on by `step`."""
        samples = self.samples(self.recipe.data.sampling)
        return tokens_trained(step, samples, self.sequences_per_step, self.block_size)

    @property
    def peak_rate(self) -> float:
        """The highest learning rate of the schedule."""
        return self.recipe.training["learning_rate"]

    @property
    def muon(self) -> bool:
        """Whether the matrices are trained by Muon, and not by AdamW."""
        return self.recipe.training.get("optim") == MUON

    @property
    def dropout(self) -> float:
        """The largest of the three."""
        model = self.recipe.model
        return max(model.resid_pdrop, model.embd_pdrop, model.attn_pdrop)

    @property
    def unigram(self) -> float:
        """The unigram loss, measured, or else a guess by the vocabulary's size."""
        return self.text.unigram_loss or self.text.unigram_entropy or typical_unigram_entropy(self.vocab_size)

    @property
    def text_name(self) -> str | None:
        """The name by which the reference runs know this text, if they do."""
        data = self.recipe.data
        if (data.dataset_config_name or "").startswith("wikitext-103"):
            return "wikitext-103"
        name = (data.dataset_name or "").lower()
        return name if name == "python-docs" else "fineweb" if "fineweb" in name else None

    def law(
        self, total_steps: int | None = None, batch: float = 1.0, worth: float = 1.0, **training: Any
    ) -> Law | None:
        """The schedule's S1 and S2, or those of another length, batch (a factor) or training arguments.

        None where the schedule follows the loss.
        """
        keywords, steps = self.recipe.training | training, total_steps or self.total_steps
        if keywords.get("lr_scheduler_type") in FOLLOWS_THE_LOSS:
            return None
        in_a_pass = self.text.tokens / self.tokens_per_step / batch
        return Law(lambda at: learning_rates(keywords, steps, at), steps, in_a_pass, worth)

    @cached_property
    def own_law(self) -> Law | None:
        """Of the schedule as it is."""
        return self.law()

    def situation(self, law: Law, batch: float = 1.0, **changes: Any) -> Situation:
        """What the expected loss depends on, with another batch (a factor) or other values where they are given."""
        values = {
            "text": self.text_name,
            "non_embedding_parameters": self.non_embedding_parameters,
            "unigram": self.unigram,
            "block_size": self.block_size,
            "peak_rate": self.peak_rate,
            "tokens_per_step": round(self.tokens_per_step * batch),
            "dataset_tokens": self.text.tokens,
            "law": law,
            "muon": self.muon,
        }
        return Situation(**values | changes)


def of_recipe(recipe: Recipe, dataset_tokens: int | None = None) -> Setup:
    """The set-up of a recipe that hasn't run, on one process.

    Raises:
        UserError: nothing tells how long the text is, or it is too short for a block.
    """
    vocab_size = recipe.data.vocab_size or DEFAULT_VOCAB_SIZE
    store = None
    with suppress(UserError):  # the text itself may be elsewhere
        store = text_size.find_store(recipe, vocab_size)
    if dataset_tokens:
        text = Text(dataset_tokens, "given")
    elif store is not None:
        totals = store.totals
        origin, entropy = f"the token store at {store.folder}", unigram_entropy(store.counts)
        text = Text(store.tokens, origin, totals.words, totals.bytes, entropy)
    else:
        words = KNOWN_WORDS.get((recipe.data.dataset_name, recipe.data.dataset_config_name))
        text = Text(*text_size.tokens_of_text(recipe, vocab_size), words)
    if count_samples(text.tokens, recipe.data.block_size, recipe.data.sampling) == 0:
        size = recipe.data.block_size
        raise UserError(f"{text.tokens:,} tokens are too few for one block of {size:,} and the token after it")
    batch = recipe.training.get("per_device_train_batch_size", 8)
    return Setup(recipe, vocab_size, batch * recipe.accumulation(1), text)
