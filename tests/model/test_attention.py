"""Attention by matmuls equals the plain formula, and a model that trains with it is the stock model."""

import pytest
import torch
import transformers
from torch.nn.functional import scaled_dot_product_attention

from clm.config.recipe import ModelOptions
from clm.model import amx, attention
from clm.model.attention import causal_attention
from clm.model.gpt2 import fresh_model
from tests.data.small import small_tokenizer


@pytest.fixture(autouse=True, params=[False, True], ids=["plain", "amx"])
def cpu(request, monkeypatch):
    """A CPU without AMX or with it; what either computes, any CPU can."""
    monkeypatch.setattr(attention, "AMX", request.param)


def states(tokens, dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(2, 3, tokens, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def by_formula(query, key, value):
    scores = query @ key.transpose(-1, -2) / 8**0.5
    ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(ahead, float("-inf")).softmax(-1) @ value


def errors(attend, inputs, weights):
    """The largest differences from the formula in double precision: of the values, and of each gradient."""
    exact = [states.detach().double().requires_grad_() for states in inputs]
    expected, found = by_formula(*exact), attend(*inputs)
    pairs = [(found, expected)]
    pairs += zip(
        torch.autograd.grad(found, inputs, weights.to(found.dtype)),
        torch.autograd.grad(expected, exact, weights),
        strict=True,
    )
    return [(mine.double() - other).abs().max().item() for mine, other in pairs]


@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 200])
def test_it_is_as_exact_as_torchs_own_in_bf16(tokens, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 64)
    monkeypatch.setattr(amx, "BLOCK", 64)
    monkeypatch.setattr(amx, "TILE", 4 * 64 * tokens)  # four heads at a time, of six
    torch.manual_seed(0)
    weights = torch.randn(2, 3, tokens, 8, dtype=torch.float64)
    ours = errors(lambda *inputs: causal_attention(None, *inputs, None)[0].transpose(1, 2), states(tokens), weights)
    theirs = errors(
        lambda *inputs: scaled_dot_product_attention(*inputs, is_causal=True), states(tokens), weights
    )  # whose own error is bf16's rounding
    for mine, other in zip(ours, theirs, strict=True):
        assert mine <= 4 * other + 2e-2


def test_nothing_flows_back_from_later_tokens():
    inputs = states(300)
    out = causal_attention(None, *inputs, None)[0]
    for grad in torch.autograd.grad(out[:, :100].sum(), inputs):
        assert (grad[:, :, 100:] == 0).all() and (grad[:, :, :100] != 0).any()


def test_with_a_cache_a_new_token_sees_all():
    query, key, value = states(10, torch.float32)
    whole = causal_attention(None, query, key, value, None)[0]
    last = causal_attention(None, query[:, :, -1:], key, value, None)[0]
    torch.testing.assert_close(last, whole[:, -1:])
    with pytest.raises(ValueError, match="one new token at a time"):  # of two, the first would see the second
        causal_attention(None, query[:, :, -2:], key, value, None)


def test_a_mask_is_refused():
    with pytest.raises(ValueError, match="pad on the right"):
        causal_attention(None, *states(4), torch.zeros(4, 4))


def test_a_fresh_model_is_the_stock_model():
    options = ModelOptions(n_layer=2, n_head=2, n_embd=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    model = fresh_model(options, 300, tokenizer).eval()
    torch.manual_seed(0)
    stock = transformers.GPT2LMHeadModel(transformers.GPT2Config(**model.config.to_diff_dict())).eval()
    tokens = torch.randint(0, len(tokenizer), (2, 300))
    torch.testing.assert_close(model(tokens).logits, stock(tokens).logits, rtol=1e-5, atol=1e-6)
    greedy = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(tokens[:1, :9], **greedy), stock.generate(tokens[:1, :9], **greedy))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens).logits.float()
    torch.testing.assert_close(logits, stock(tokens).logits, rtol=0.05, atol=0.02)
