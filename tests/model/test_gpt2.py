"""The training model: aligned labels, the scale of its loss, and the stock model that it saves."""

import json

import pytest
import torch
import transformers
from torch.nn import functional as F

from clm.config.recipe import ModelOptions
from clm.model.gpt2 import GPT2LMHeadModel, model_config

TINY = ModelOptions(n_layer=2, n_head=2, n_embd=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(model_config(TINY, block_size=12, vocab_size=300, end_of_text=0)).eval()


def test_labels_are_aligned_and_the_loss_is_the_next_token_loss_by_hand(model):
    tokens = torch.randint(0, 300, (2, 13))
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    log_probs = F.log_softmax(model(inputs).logits, dim=-1)
    by_hand = -sum(log_probs[b, t, labels[b, t]] for b in range(2) for t in range(12)) / 24
    assert model(inputs, labels=labels).loss.item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_the_loss_is_divided_by_the_whole_steps_labels(model):
    tokens = torch.randint(0, 300, (2, 13))
    alone = model(tokens[:, :-1], labels=tokens[:, 1:]).loss
    as_a_third = model(tokens[:, :-1], labels=tokens[:, 1:], num_items_in_batch=72).loss
    assert as_a_third.item() == pytest.approx(alone.item() / 3, rel=1e-6)


def test_what_is_saved_is_the_stock_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"] and config["use_cache"] and config["n_positions"] == 12
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(stock) is transformers.GPT2LMHeadModel
    tokens = torch.randint(0, 300, (2, 12))
    assert torch.equal(stock(tokens).logits, model(tokens).logits)
    # The stock loss shifts by itself: 11 of the 12 labels.
    shifted = model(tokens[:, :-1], labels=tokens[:, 1:]).loss
    assert stock(tokens, labels=tokens).loss.item() == pytest.approx(shifted.item(), rel=1e-5)
