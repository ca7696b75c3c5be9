"""Continuations come out the same every time and leave no trace in training."""

import copy

import pytest
import torch
import transformers

from clm import __main__ as clm
from clm.config.recipe import ModelOptions
from clm.errors import UserError
from clm.model.generation import continue_prompts
from clm.model.gpt2 import fresh_model
from clm.model.loading import load_model
from tests.data.small import small_tokenizer
from tests.launches import Launches


@pytest.fixture
def model_and_tokenizer():
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=16, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config), tokenizer


def test_the_same_prompts_give_the_same_texts_and_training_goes_on_as_if_nothing_had_been(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    model.train()
    state = torch.get_rng_state()
    first = continue_prompts(model, tokenizer, ["the word", ""], max_new_tokens=5)
    assert [(s.prompt, s.mode) for s in first] == [
        ("the word", "greedy"), ("the word", "sampled"), ("", "greedy"), ("", "sampled")
    ]  # fmt: skip
    assert first == continue_prompts(model, tokenizer, ["the word", ""], max_new_tokens=5)
    assert first != continue_prompts(model, tokenizer, ["the word", ""], max_new_tokens=5, seed=1)
    assert model.training and torch.equal(state, torch.get_rng_state())


PROMPTS = ["the word", "", "other words and the word", "word " * 6]


@pytest.fixture
def of_some_size():
    """A model whose likeliest tokens differ by the text before them, with the attention of training."""
    tokenizer = small_tokenizer()
    torch.manual_seed(1)
    model = fresh_model(ModelOptions(n_layer=2, n_head=2, n_embd=16), 64, tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)
    return model, tokenizer


def generated(model, tokenizer, prompt, **settings):
    """transformers' own continuation of one prompt, of 9 tokens."""
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(prompt)["input_ids"]]])
    options = {"max_new_tokens": 9, "pad_token_id": tokenizer.eos_token_id, "attention_mask": torch.ones_like(ids)}
    out = model.eval().generate(ids, **options, **settings)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_prompts_of_all_lengths_at_once_give_what_each_gives_alone_and_transformers_gives(of_some_size):
    model, tokenizer = of_some_size
    together = continue_prompts(model, tokenizer, PROMPTS, max_new_tokens=9, seed=3)
    assert together == [
        sample for prompt in PROMPTS for sample in continue_prompts(model, tokenizer, [prompt], 9, seed=3)
    ]
    assert len({sample.text for sample in together}) == 8
    for greedy, sampled in zip(together[::2], together[1::2], strict=True):
        assert greedy.text == generated(model, tokenizer, greedy.prompt, do_sample=False)
        torch.manual_seed(3)
        assert sampled.text == generated(model, tokenizer, sampled.prompt, do_sample=True, top_k=50, temperature=1.0)


def test_a_text_ends_where_end_of_text_is_drawn(of_some_size):
    model, tokenizer = of_some_size
    [greedy, _] = continue_prompts(model, tokenizer, ["the word"], max_new_tokens=9)
    third = tokenizer(greedy.text)["input_ids"][2]
    model.generation_config.eos_token_id = [third, tokenizer.eos_token_id]
    [short, _] = continue_prompts(model, tokenizer, ["the word"], max_new_tokens=9)
    assert short.text and greedy.text.startswith(short.text) and short.text != greedy.text


def test_all_samples_take_the_steps_of_one_and_no_number_from_the_device(of_some_size):
    model, tokenizer = of_some_size
    widths = []
    model.register_forward_pre_hook(lambda _, args: widths.append(tuple(args[0].shape)))
    with Launches() as asked:
        continue_prompts(model, tokenizer, ["the word", ""], max_new_tokens=9)
    longer = len(tokenizer("the word")["input_ids"])
    assert widths == [(4, 1)] * (longer + 9)  # two prompts twice; end-of-text and 8 new ones, and what is given
    assert asked.host_reads == 0, asked.reads_by_op
    # A prompt that is far longer goes alone: it would take more steps to feed than to continue.
    widths.clear()
    continue_prompts(model, tokenizer, ["the word " * 9, ""], max_new_tokens=2)
    assert [rows for rows, _ in widths] == [2] * 4 and widths[0] == (2, 1) and widths[2][1] > 9


def test_a_model_without_a_cache_gives_the_same(of_some_size, monkeypatch):
    model, tokenizer = of_some_size
    expected = continue_prompts(model, tokenizer, PROMPTS, max_new_tokens=5)
    stock = model.forward
    monkeypatch.setattr(model, "forward", lambda ids, past_key_values, use_cache, **rest: stock(ids, use_cache=False))
    assert continue_prompts(model, tokenizer, PROMPTS, max_new_tokens=5) == expected


def test_a_prompt_longer_than_the_context_keeps_its_end(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    end = "the word " * 50
    [greedy, _] = continue_prompts(model, tokenizer, [end], max_new_tokens=5)
    [same, _] = continue_prompts(model, tokenizer, ["other words " * 50 + end], max_new_tokens=5)
    assert greedy.text == same.text and greedy.text
    assert len(continue_prompts(model, tokenizer, [end], max_new_tokens=1_000)) == 2


def test_the_command_continues_a_prompt_with_a_saved_model(model_and_tokenizer, tmp_path, capsys):
    for part in model_and_tokenizer:
        part.save_pretrained(tmp_path)
    capsys.readouterr()
    assert clm.main(["generate", "--model", str(tmp_path), "--prompt", "the word", "--max_new_tokens", "3"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("[greedy] the word") and "[sampled] the word" in said.out and not said.err


def test_a_tokenizer_without_end_of_text_is_a_fault_of_one_line(model_and_tokenizer, tmp_path, capsys):
    model, tokenizer = model_and_tokenizer[0], copy.deepcopy(model_and_tokenizer[1])  # others share it
    tokenizer.eos_token = None
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    capsys.readouterr()
    assert clm.main(["generate", "--model", str(tmp_path), "--prompt", "the word"]) == 2
    assert "its tokenizer has no eos_token" in capsys.readouterr().err


def test_a_run_that_has_no_model_yet_is_named_as_that(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(UserError, match=r"this run has no model yet.*checkpoint-N"):
        load_model(str(tmp_path))


def test_weights_in_a_pickle_are_not_loaded(model_and_tokenizer, tmp_path):
    model, tokenizer = model_and_tokenizer
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no causal language model could be loaded"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generate", "--model", "./nowhere", "--prompt", "a"], "./nowhere: there is no such folder"),
        (["generate", "--prompt", "a"], "required: --model"),
        (["generate", "--model", "a", "--prompt", "a", "--seeed", "1"], "--seeed isn't known to generate"),
        (["generate", "--model", "a", "--prompt", "a", "--seed", str(2**32)], "isn't from 0 to 2^32 - 1"),
        (["guess"], "invalid choice: 'guess'"),
        (["plan", "--config", "a.json", "--processes", "0"], "'0' isn't 1 or more"),
    ],
)
def test_bad_words_get_one_line(words, said, capsys):
    assert clm.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
