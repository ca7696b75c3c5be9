"""A small GPT-2 with its tokenizer, saved as a run or a user would."""

from pathlib import Path

import torch
import transformers

from tests.data.small import small_tokenizer


def small_model(positions: int = 16, vocab_size: int | None = None, seed: int = 0) -> transformers.GPT2LMHeadModel:
    """Random weights, wide enough apart that context matters."""
    torch.manual_seed(seed)
    end = small_tokenizer().eos_token_id
    config = transformers.GPT2Config(
        vocab_size=vocab_size or len(small_tokenizer()), n_positions=positions, n_embd=16, n_layer=2, n_head=2,
        initializer_range=0.3, bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def save(folder: Path, model: transformers.PreTrainedModel | None = None, tokenizer: object = None) -> str:
    """The folder, with a model and a tokenizer in it."""
    (model or small_model()).save_pretrained(folder)
    (tokenizer or small_tokenizer()).save_pretrained(folder)
    return str(folder)
