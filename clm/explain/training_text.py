"""What is known of a run's text: from a run's folder, a recipe, or the text itself."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from clm.config.recipe import Recipe
from clm.data import text_size
from clm.data.description import counts_of_splits
from clm.data.prepare import Prepared
from clm.errors import UserError
from clm.explain.scaling import unigram_entropy, unigram_loss
from clm.numbers import count, number

# Words of well-known training splits, as WikiText's published figures count them: (dataset, configuration) -> words.
KNOWN_WORDS = {("Salesforce/wikitext", "wikitext-103-raw-v1"): 103_227_021}


@dataclass(frozen=True)
class Sizes:
    """Counts of one text; words and line ends count as published word perplexities count them, None if not counted."""

    tokens: int
    words: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Text:
    """What is known of a training text. Entropies are in nats a token; None means that it isn't measured.

    Where `never_repeated`, its length isn't known, and `tokens` are those that the run trains on. `validation` is the
    held-out text, as far as it is known.
    """

    tokens: int
    tokens_from: str
    words: int | None = None
    bytes: int | None = None
    unigram_entropy: float | None = None
    unigram_loss: float | None = None  # on the validation text
    never_repeated: bool = False
    validation: Sizes | None = None

    def sizes_for(self, kind: str) -> tuple[Sizes, str]:
        """The counts by which a `training` or `validation` loss is turned into other units, and of which text."""
        if kind == "validation" and self.validation:
            return self.validation, "validation"
        return Sizes(self.tokens, self.words, self.bytes), "training"


def name_of(recipe: Recipe) -> str | None:
    """The name by which the reference runs know a recipe's text, if they do."""
    name = (recipe.data.dataset_name or "").lower()
    if "wikitext-103" in name or (recipe.data.dataset_config_name or "").startswith("wikitext-103"):
        return "wikitext-103"
    return name if name == "python-docs" else "fineweb" if "fineweb" in name else None


def text_in_figures(data: Prepared) -> dict[str, Any]:
    """What data.json holds: counts of both splits, and what a unigram model of the text scores, nats a token."""
    scores = {
        "unigram_entropy": unigram_entropy(data.train.counts),
        "unigram_loss": unigram_loss(data.train, data.validation),
    }
    return counts_of_splits(data) | scores


def of_statistics(statistics: Mapping[str, Any]) -> Text | None:
    """The text that data.json describes; None where it doesn't tell how long the text is."""
    train = statistics.get("train")
    if not isinstance(train, dict) or not count(train.get("tokens")):
        return None
    scores = (number(statistics.get(key)) for key in ("unigram_entropy", "unigram_loss"))
    sizes = (count(train.get(key)) for key in ("words", "bytes"))
    held_out = _scored(statistics.get("validation"))
    return Text(train["tokens"], "the run's own text", *sizes, *scores, validation=held_out)


def _scored(split: Any) -> Sizes | None:
    """What an evaluation of the validation text counts: its documents' end-of-text is scored nowhere."""
    if not isinstance(split, dict) or not count(split.get("tokens")):
        return None
    tokens = split["tokens"] - (count(split.get("documents")) or 0)
    return Sizes(tokens, *(count(split.get(key)) for key in ("words", "bytes"))) if tokens > 0 else None


def of_log(recipe: Recipe, log: Sequence[Mapping[str, Any]], sequences_per_step: int) -> Text | None:
    """The text whose length, to within a step, is told by how far in an epoch a logged step was; None without one."""
    known = [entry for entry in log if number(entry.get("epoch"))]
    if not known:
        return None
    samples = math.floor(known[-1]["step"] / known[-1]["epoch"]) * sequences_per_step
    size = recipe.data.block_size
    tokens = samples + size if recipe.data.sampling == "windows" else samples * size + 1
    return Text(tokens, "the epochs in the run's log")


def of_recipe(recipe: Recipe, vocab_size: int, dataset_tokens: int | None = None) -> Text:
    """The text of a recipe that hasn't run: as long as is given, or as its token store, files or a table tell.

    Raises:
        UserError: nothing tells how long it is.
    """
    if dataset_tokens:
        return Text(dataset_tokens, "given")
    store = None
    with suppress(UserError):  # the text itself may be elsewhere
        store = text_size.find_store(recipe, vocab_size)
    if store is not None:
        totals, entropy = store.totals, unigram_entropy(store.counts)
        return Text(store.tokens, f"the token store at {store.folder}", totals.words, totals.bytes, entropy)
    words = KNOWN_WORDS.get((recipe.data.dataset_name, recipe.data.dataset_config_name))
    return Text(*text_size.tokens_of_text(recipe, vocab_size), words)
