"""Training by the fast path ends where training by the plain one does."""

import statistics

import torch
from torch.nn import functional as F

from clm.config.recipe import ModelOptions
from clm.model.gpt2 import fresh_model
from tests.data.small import small_tokenizer

OPTIONS = ModelOptions(n_layer=2, n_head=2, n_embd=32, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
STEPS = 200


def batches(vocab_size):
    """A language with something to learn: each token is one of three that its predecessor allows."""
    generator = torch.Generator().manual_seed(0)
    allowed = torch.randint(0, vocab_size, (vocab_size, 3), generator=generator)
    tokens = torch.randint(0, vocab_size, (STEPS, 8, 1), generator=generator)
    for _ in range(32):
        choice = torch.randint(0, 3, tokens[..., -1:].shape, generator=generator)
        tokens = torch.cat([tokens, allowed[tokens[..., -1:]].gather(-1, choice[..., None])[..., 0]], dim=-1)
    return tokens


def losses(seed, fast):
    """Losses of a run: by this project's way in bf16, or logits in fp32 and torch's cross-entropy."""
    torch.manual_seed(seed)
    tokenizer = small_tokenizer()
    model = fresh_model(OPTIONS, 32, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    curve = []
    for tokens in batches(len(tokenizer)):
        inputs, labels = tokens[:, :-1], tokens[:, 1:]
        if fast:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(inputs, labels=labels).loss
        else:
            loss = F.cross_entropy(model(inputs).logits.flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        curve.append(loss.item())
    return curve


def test_two_hundred_steps_agree_within_the_spread_of_seeds():
    plain = [losses(seed, fast=False) for seed in range(3)]
    fast = losses(0, fast=True)
    for end in (50, 100, 150, 200):
        means = [statistics.mean(curve[end - 20 : end]) for curve in plain]
        assert abs(statistics.mean(fast[end - 20 : end]) - means[0]) < statistics.stdev(means)
    assert plain[0][-1] < plain[0][0] - 1  # there was something to agree on
