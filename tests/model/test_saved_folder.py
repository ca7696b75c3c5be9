"""The saved folder as a person uses it: a prompt and nothing else, ids and nothing else, a padded batch."""

import json
import logging

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers.utils.logging import disable_propagation, enable_propagation

from clm.config.recipe import ModelOptions
from clm.data import tokenizer as tokenizers
from clm.model.generation import continue_prompts
from clm.model.gpt2 import fresh_model
from clm.model.loading import load_model
from clm.training.checkpoint.snapshot import distinct, write_model
from tests.data.small import mixed_text, small_tokenizer

SHAPE = ModelOptions(n_layer=1, n_head=2, n_embd=16, initializer_range=0.3)
LONG = "the word of it " * 400


@pytest.fixture(scope="module", params=[32, 128, 1024])
def folder(request, tmp_path_factory):
    """A model with so many positions that never says end-of-text, so that every text goes on to its bound."""
    torch.manual_seed(0)
    model = fresh_model(SHAPE, request.param, small_tokenizer())
    with torch.no_grad():
        model.transformer.wte.weight[0] = 0.0
        model.transformer.ln_f.bias[:] = 1.0
        model.transformer.wte.weight[1:] += 0.3  # every other id has a logit some 5 above end-of-text's
    path = tmp_path_factory.mktemp("saved")
    write_model(path, model, small_tokenizer(), distinct(model))
    return path


@pytest.fixture(autouse=True)
def warnings(caplog):
    """What transformers has to say, where caplog sees it."""
    enable_propagation()
    yield
    disable_propagation()


@pytest.fixture
def context(folder):
    return json.loads((folder / "config.json").read_text())["n_positions"]


def test_a_pipeline_with_nothing_but_a_prompt_fills_the_context_and_no_more(folder, context, caplog):
    said = pipeline("text-generation", model=str(folder))("the word", return_tensors=True)
    assert len(said[0]["generated_token_ids"]) == context
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_generate_with_nothing_but_ids_draws_from_the_likeliest(folder, context, caplog):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the word", return_tensors="pt").input_ids
    torch.manual_seed(0)
    one, other = model.generate(ids), model.generate(ids)
    assert one.shape == other.shape == (1, context) and not torch.equal(one, other)
    settings = model.generation_config
    assert (settings.do_sample, settings.temperature, settings.top_k) == (True, 0.8, 50)
    assert caplog.text == ""


def test_a_prompt_that_leaves_no_room_is_refused_with_both_lengths(folder, context):
    with pytest.raises(ValueError, match=rf"Input length of input_ids is \d+, but `max_length` is set to {context}"):
        pipeline("text-generation", model=str(folder))(LONG)


def test_a_conversation_is_refused_for_want_of_a_template(folder):
    with pytest.raises(ValueError, match="chat_template"):
        pipeline("text-generation", model=str(folder))([{"role": "user", "content": "the word"}])


def test_what_the_user_asks_for_counts(folder):
    said = pipeline("text-generation", model=str(folder))("the", max_new_tokens=4, do_sample=False, return_tensors=True)
    assert len(said[0]["generated_token_ids"]) == len(small_tokenizer()("the").input_ids) + 4


def test_a_batch_padded_on_the_left_goes_on_as_each_prompt_does_alone(folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompts = ["the", "another one of the words that"]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    assert batch.attention_mask[0, 0] == 0 and batch.input_ids[0, 0] == tokenizer.eos_token_id
    together = model.generate(**batch, max_length=batch.input_ids.shape[1] + 3, do_sample=False)[:, -3:]
    for row, prompt in enumerate(prompts):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        alone = model.generate(ids, max_length=ids.shape[1] + 3, do_sample=False)
        assert torch.equal(together[row], alone[0, -3:])
    said = pipeline("text-generation", model=str(folder), batch_size=2)(prompts, do_sample=False)
    for text, prompt in zip(said, prompts, strict=True):
        assert text[0]["generated_text"].startswith(prompt)


def test_a_batch_padded_on_the_right_has_the_logits_of_each_text_alone(folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["the", "another one of the words that"]
    batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    logits = model(**batch).logits
    for row, text in enumerate(texts):
        alone = model(**tokenizer(text, return_tensors="pt")).logits[0]
        assert torch.allclose(logits[row, : len(alone)], alone, atol=1e-5)


def test_the_context_and_the_padding_are_named_and_no_text_gets_other_ids(folder, context, tmp_path, caplog):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.model_max_length, tokenizer.pad_token, tokenizer.pad_token_id) == (context, "<|endoftext|>", 0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.pad_token_id == 0
    model(tokenizer("<|endoftext|>the", return_tensors="pt").input_ids)  # as documents start
    assert caplog.text == ""
    text = mixed_text(3_000)
    assert tokenizer(text, verbose=False).input_ids == small_tokenizer()(text).input_ids
    tokenizers.write(small_tokenizer(), tmp_path)
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    loaded = tokenizers.load(str(folder), str(tmp_path))  # for another run
    assert loaded.backend_tokenizer.to_str() == small_tokenizer().backend_tokenizer.to_str()
    assert loaded.pad_token is None


def test_our_own_samples_are_drawn_as_ever_and_without_a_word(folder, caplog):
    model, tokenizer = load_model(str(folder))
    plain = load_model(str(folder))[0]
    plain.generation_config = type(plain.generation_config)(bos_token_id=0, eos_token_id=0)
    assert continue_prompts(model, tokenizer, [LONG], 9) == continue_prompts(plain, tokenizer, [LONG], 9)
    assert caplog.text == ""


def test_more_new_tokens_than_there_is_room_for(folder, context, caplog):
    """No saved setting overrules `max_new_tokens` of a call: what becomes of it, as docs/run-folder.md says."""
    generate = pipeline("text-generation", model=str(folder))
    with pytest.raises(IndexError):
        generate("the word", max_new_tokens=context)
    assert f"exceeded the model's predefined maximum length ({context})" in caplog.text
    cut = generate(LONG, max_new_tokens=8, handle_long_generation="hole", return_tensors=True)
    assert len(cut[0]["generated_token_ids"]) == context
    with pytest.raises(ValueError, match="the number of desired tokens exceeds the models max length"):
        generate(LONG, max_new_tokens=context, handle_long_generation="hole")
