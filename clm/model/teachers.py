"""The models that a run learns from besides its text: loaded, checked, and known by their weights."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerBase

from clm.data.prepare import tokenizer_hash
from clm.errors import UserError
from clm.model import attention
from clm.model.gpt2 import take_fused_gelu
from clm.model.loading import check_weights, load_model


@dataclass(frozen=True)
class Teacher:
    """One of them. `name` is what the recipe calls it; `weights` a digest of its weights."""

    name: str
    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerBase
    weights: str


def load_teachers(names: Sequence[str], block_size: int, cache_dir: str) -> list[Teacher]:
    """The teachers of these names, folders or models of the Hub, on the CPU and not to be trained.

    Args:
        names: as the recipe has them.
        block_size: of the run, whose blocks they have to read.
        cache_dir: for downloads.

    Raises:
        UserError: one can't be loaded, is no GPT-2, or has too few positions.
    """
    return [_load(name, block_size, cache_dir) for name in names]


def _load(name: str, block_size: int, cache_dir: str) -> Teacher:
    model, tokenizer = load_model(name, "teachers", cache_dir)
    if not isinstance(model, GPT2LMHeadModel):
        raise UserError(f"teachers: {name} is a {type(model).__name__}; a teacher must be a GPT2LMHeadModel")
    check_weights(model, tokenizer, f"teachers: {name}")
    if model.config.n_positions < block_size:
        raise UserError(
            f"teachers: {name} has {model.config.n_positions:,} positions, fewer than block_size {block_size:,}"
        )
    model.set_attn_implementation(attention.NAME)
    take_fused_gelu(model)
    return Teacher(name, model.requires_grad_(False), tokenizer, digest(model))


def digest(model: torch.nn.Module) -> str:
    """A short name for a model's weights, the same for equal ones, wherever they come from."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        sha.update(f"{name} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().data)
    return sha.hexdigest()[:16]


def check_tokenizers(teachers: Sequence[Teacher], tokenizer: PreTrainedTokenizerBase) -> None:
    """Stop where a teacher speaks of other ids than the student.

    Raises:
        UserError: it has another tokenizer, by the contents of tokenizer.json, or not one weight for each of its ids.
    """
    for teacher in teachers:
        if tokenizer_hash(teacher.tokenizer) != tokenizer_hash(tokenizer):
            raise UserError(
                f"teachers: {teacher.name} has another tokenizer than this run (tokenizer.json differs): set "
                f"tokenizer_path to {teacher.name}, or name teachers with this run's tokenizer"
            )
        if teacher.model.config.vocab_size != len(tokenizer):
            raise UserError(
                f"teachers: {teacher.name} has {teacher.model.config.vocab_size:,} ids and its tokenizer "
                f"{len(tokenizer):,}: name one that has as many as its tokenizer"
            )
