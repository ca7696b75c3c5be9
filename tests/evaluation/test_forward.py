"""Losses from whatever head a model has, and refusal of models that look ahead."""

import pytest
import torch
import transformers
from torch.nn import functional as F

from clm.data.blocks import IGNORED
from clm.errors import UserError
from clm.evaluation import forward
from clm.evaluation.forward import from_logits, probe
from tests.evaluation.saved import small_model

SHAPE = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 16, "max_position_embeddings": 16, "initializer_range": 0.5,
}  # fmt: skip
INPUTS = torch.tensor([[0, 5, 6, 7], [0, 8, 9, 0]])
LABELS = torch.tensor([[5, 6, 7, 8], [IGNORED, 9, 10, IGNORED]])


def of_kind(name, **options):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **SHAPE | options)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def heads():
    yield "gpt2", small_model(vocab_size=50), "from_hidden_states"
    yield "llama", of_kind("llama"), "from_hidden_states"
    yield "mamba", of_kind("mamba"), "from_hidden_states"
    yield "logits times a scale", of_kind("cohere", logit_scale=0.25), "from_logits"
    yield "capped logits", of_kind("gemma2", final_logit_softcapping=2.0, query_pre_attn_scalar=8), "from_logits"
    small = {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8, "initializer_range": 1e-4}
    yield "a cap too far off to be noticed in a trial", of_kind("gemma2", **small), "from_logits"
    biased = of_kind("gptj", rotary_dim=4)
    torch.nn.init.normal_(biased.lm_head.bias)
    yield "a bias", biased, "from_logits"


@pytest.mark.parametrize(("model", "way"), [case[1:] for case in heads()], ids=[case[0] for case in heads()])
def test_losses_are_those_of_the_models_own_logits_whatever_its_head(model, way, monkeypatch):
    with torch.no_grad():
        expected = F.cross_entropy(model(INPUTS).logits.transpose(1, 2), LABELS, reduction="none", ignore_index=IGNORED)
        taken = []
        for name in ("from_hidden_states", "from_logits"):
            function = getattr(forward, name)
            monkeypatch.setattr(forward, name, lambda m, f=function, n=name: (taken.append(n), f(m))[1])
        losses = probe(model, "it")(INPUTS, LABELS)
        assert taken == [way]
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(from_logits(model)(INPUTS, LABELS), expected, rtol=1e-5, atol=1e-5)


def test_logits_are_held_for_so_many_rows_only(monkeypatch):
    model, seen = small_model(vocab_size=50), []
    whole = from_logits(model)(INPUTS, LABELS)
    model.register_forward_hook(lambda _, __, output: seen.append(tuple(output.logits.shape)))
    monkeypatch.setattr(forward, "LOGITS_ELEMENTS", 4 * 50)
    with torch.no_grad():
        torch.testing.assert_close(from_logits(model)(INPUTS, LABELS), whole)
    assert seen == [(1, 4, 50)] * 2


@pytest.mark.parametrize("is_decoder", [False, True])
def test_a_model_that_reads_what_it_has_to_predict_is_refused(is_decoder):
    model = of_kind("bert", is_decoder=is_decoder, initializer_range=0.02)
    if is_decoder:
        probe(model, "it")
    else:
        with pytest.raises(UserError, match="it: BertLMHeadModel isn't causal"):
            probe(model, "it")
