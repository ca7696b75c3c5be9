"""What the user tells of a run that was made elsewhere: a recipe or a part of one, and what is missing from it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from clm.config.command_line import fragment
from clm.config.optim_args import embeddings_rate
from clm.config.recipe import Recipe
from clm.data.prepare import DEFAULT_VOCAB_SIZE
from clm.errors import UserError
from clm.explain import training_text
from clm.explain.forecast import Facts, Law
from clm.explain.forecast.facts import DECAY
from clm.explain.setup import Setup, with_a_block
from clm.explain.training_text import Text
from clm.model.size import count_parameters
from clm.training.schedule import FOLLOWS_THE_LOSS, learning_rates

BATCH = "global_batch_size"
MODEL = ("n_layer", "n_embd")
SCHEDULE = ("max_steps", "lr_scheduler_type")
ALL = (*MODEL, "vocab_size", "block_size", BATCH, "learning_rate", *SCHEDULE)
TEXTS = frozenset({"dataset_name", "train_file"})
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


@dataclass(frozen=True)
class Given:
    """The keys that are `given`, in a recipe whose other keys mean nothing; `total_steps` as the log says."""

    recipe: Recipe
    given: frozenset[str]
    dataset_tokens: int | None
    total_steps: int | None = None

    @classmethod
    def of(cls, argv: Sequence[str], dataset_tokens: int | None) -> "Given":
        """From `[--config FILE] [--key value …]`; a file that names its text is complete, its defaults hold."""
        recipe, given = fragment(argv)
        if given & TEXTS and not any(word.startswith(tuple(f"--{key}" for key in TEXTS)) for word in argv):
            complete = {*MODEL, "vocab_size", "block_size", "learning_rate", "lr_scheduler_type", "num_train_epochs"}
            given |= complete | {"per_device_train_batch_size", "warmup_steps", "optim", *DROPOUTS}
            recipe = replace(recipe, data=replace(recipe.data, vocab_size=recipe.data.vocab_size or DEFAULT_VOCAB_SIZE))
        else:
            model = replace(recipe.model, **{key: 0.0 for key in DROPOUTS if key not in given})
            recipe = replace(recipe, model=model)
        return cls(recipe, given, dataset_tokens)

    @property
    def missing(self) -> list[str]:
        """Of ALL, those that nothing tells."""
        return [key for key in ALL if getattr(self, f"_{key}", key if key in self.given else None) is None]

    def lacks(self, *keys: str) -> list[str]:
        """Those of `keys` that are missing."""
        return [key for key in keys if key in self.missing]

    @property
    def vocab_size(self) -> int | None:
        """Ids of the tokenizer."""
        return self.recipe.data.vocab_size

    @property
    def optimizer(self) -> str:
        """By name; AdamW where none is given."""
        return self.recipe.training.get("optim", "adamw")

    @property
    def assumed(self) -> list[str]:
        """What isn't given and is taken as usual, in words."""
        said = [] if "optim" in self.given else ["AdamW"]
        said += [] if set(DROPOUTS) & self.given else ["no dropout"]
        return said if "warmup_steps" in self.given else [*said, "a warmup of 2 % of the steps"]

    @cached_property
    def text(self) -> Text | None:
        """Of a complete recipe, or of a length that is given; None for one that isn't known."""
        if self.dataset_tokens:
            return Text(self.dataset_tokens, "given")
        if self.given & TEXTS:
            with suppress(UserError):  # the text may be elsewhere
                return training_text.of_recipe(self.recipe, self.vocab_size or DEFAULT_VOCAB_SIZE)
        return None

    @cached_property
    def steps(self) -> int | None:
        """Optimizer steps of the whole run."""
        return self._max_steps

    @property
    def steps_are_the_logs(self) -> bool:
        """Whether only the log says how many steps the run has."""
        return self.steps is not None and replace(self, total_steps=None).steps is None

    @property
    def law(self) -> Law | None:
        """The schedule's law, for which the schedule alone has to be known."""
        training = self.recipe.training
        if self.lacks(*SCHEDULE) or training["lr_scheduler_type"] in FOLLOWS_THE_LOSS:
            return None
        a_step = self._global_batch_size and self.recipe.data.block_size * self._global_batch_size
        in_a_pass = self.text.tokens / a_step if self.text and a_step else float("inf")
        parameters = self.facts.parameters
        return Law(lambda at: learning_rates(training, self.steps, at), self.steps, in_a_pass, parameters=parameters)

    @property
    def facts(self) -> Facts:
        """What is known for a forecast."""
        parameters = None
        if not self.lacks(*MODEL):
            model = self.recipe.model
            sizes: dict[str, Any] = {"n_layer": model.n_layer, "n_embd": model.n_embd, "n_inner": model.n_inner}
            parameters = count_parameters(**sizes, block_size=1, vocab_size=1).non_embedding
        tokens = None
        if not self.lacks("block_size", BATCH, "max_steps"):
            tokens = self.steps * self.recipe.data.block_size * self._global_batch_size
        training = self.recipe.training
        return Facts(
            parameters=parameters,
            tokens=tokens,
            steps=self.steps,
            optimizer=self.optimizer,
            peak_rate=training["learning_rate"] if "learning_rate" in self.given else None,
            epochs=max(1.0, tokens / self.text.tokens) if tokens and self.text else 1.0,
            text=training_text.name_of(self.recipe),
            dropout=max(getattr(self.recipe.model, name) for name in DROPOUTS),
            weight_decay=training["weight_decay"] if "weight_decay" in self.given else DECAY,
            embeddings=embeddings_rate(training),
        )

    @property
    def setup(self) -> Setup | None:
        """All that a loss is held against; None where something is missing.

        Raises:
            UserError: the text is too short for a block.
        """
        if self.missing:
            return None
        recipe, sequences, text = self.recipe, self._global_batch_size, self.text
        if text is None:
            tokens = self.steps * sequences * recipe.data.block_size
            text = Text(tokens + 1, "its length isn't known: it counts as never repeated", never_repeated=True)
            recipe = replace(recipe, data=replace(recipe.data, sampling="blocks"))
        training = recipe.training | {"max_steps": self.steps}
        return with_a_block(Setup(replace(recipe, training=training), self.vocab_size, sequences, text))

    @property
    def told(self) -> dict[str, Any]:
        """The keys that hold, with their values."""
        resolved = self.recipe.resolved()
        return {key: resolved[key] for key in resolved if key in self.given}

    @property
    def sequences_per_step(self) -> int | None:
        """Of an optimizer step."""
        return self._global_batch_size

    @property
    def _vocab_size(self) -> int | None:
        return self.vocab_size

    @cached_property
    def _global_batch_size(self) -> int | None:
        if self.recipe.run.global_batch_size:
            return self.recipe.run.global_batch_size
        if "per_device_train_batch_size" not in self.given:
            return None
        return self.recipe.micro_batch() * self.recipe.training.get("gradient_accumulation_steps", 1)

    @cached_property
    def _max_steps(self) -> int | None:
        training = self.recipe.training
        if training.get("max_steps", -1) > 0:
            return training["max_steps"]
        if self.text and "num_train_epochs" in self.given and self._global_batch_size:
            made = Setup(self.recipe, self.vocab_size or 2, self._global_batch_size, self.text)
            return made.total_steps if made.samples(self.recipe.data.sampling) else self.total_steps
        return self.total_steps
