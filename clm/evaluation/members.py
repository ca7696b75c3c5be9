"""The models whose mean is scored; one alone is its own mean."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from clm.errors import UserError
from clm.model.loading import check_weights, load_model


def load_members(names: Sequence[str]) -> tuple[list[PreTrainedModel], PreTrainedTokenizerBase]:
    """The models of these names, fit to be scored, and the tokenizer that all of them have.

    Raises:
        UserError: one isn't fit, or has another tokenizer than the first.
    """
    loaded = [load_model(name) for name in names]
    first = loaded[0][1]
    for name, (model, tokenizer) in zip(names, loaded, strict=True):
        check_weights(model, tokenizer, name)
        if len(names) > 1 and _contents(tokenizer) != _contents(first):
            raise UserError(f"--model {name}: it has another tokenizer than {names[0]}, so they have no mean")
    return [model for model, _ in loaded], first


def _contents(tokenizer: PreTrainedTokenizerBase) -> Any:
    """What tokenizer.json holds, or of a tokenizer in Python its class and its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (type(tokenizer), tokenizer.get_vocab()) if backend is None else backend.to_str()
