"""The count of parameters against a real model's, and against a count by hand."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from clm.model.size import count_parameters


def test_a_count_by_hand():
    # Width 2, inner 8. A block: 2x6 + 6, 2x2 + 2, 2x8 + 8, 8x2 + 2 and two LayerNorms of 4: 74, 48 of them in matrices.
    # Tables: (5 + 3) x 2. The last LayerNorm: 4.
    counted = count_parameters(n_layer=3, n_embd=2, block_size=3, vocab_size=5)
    assert (counted.blocks, counted.matrices, counted.embeddings) == (3 * 74, 3 * 48, 16)
    assert counted.total == 3 * 74 + 16 + 4 and counted.non_embedding == 3 * 74 + 4


@pytest.mark.parametrize(
    "shape",
    [
        {"n_layer": 12, "n_embd": 768, "n_inner": None, "block_size": 1024, "vocab_size": 50257},
        {"n_layer": 2, "n_embd": 16, "n_inner": 40, "block_size": 12, "vocab_size": 300},
        {"n_layer": 1, "n_embd": 8, "n_inner": None, "block_size": 4, "vocab_size": 7, "tie_word_embeddings": False},
        {"n_layer": 3, "n_embd": 12, "n_inner": 5, "block_size": 9, "vocab_size": 11, "tie_word_embeddings": True},
    ],
    ids=["GPT-2 124M", "inner", "untied", "narrow"],
)
def test_it_is_what_the_model_has(shape):
    rest = {key: value for key, value in shape.items() if key != "block_size"}
    config = GPT2Config(n_positions=shape["block_size"], n_head=1, bos_token_id=0, eos_token_id=0, **rest)
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    blocks, counted = list(model.transformer.h.parameters()), count_parameters(**shape)
    tables = (model.transformer.wte, model.transformer.wpe)
    assert counted.total == model.num_parameters()
    assert counted.embeddings == sum(table.weight.numel() for table in tables)
    assert counted.blocks == sum(weight.numel() for weight in blocks)
    assert counted.matrices == sum(weight.numel() for weight in blocks if weight.ndim == 2)
