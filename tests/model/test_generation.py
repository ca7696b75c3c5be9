"""Continuations come out the same every time and leave no trace in training."""

import pytest
import torch
import transformers

from clm import __main__ as clm
from clm.errors import UserError
from clm.evaluation.loading import load_model
from clm.model.generation import continue_prompts
from tests.data.small import small_tokenizer


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
        (["guess"], "invalid choice: 'guess'"),
        (["plan", "--config", "a.json", "--processes", "0"], "'0' isn't 1 or more"),
    ],
)
def test_bad_words_get_one_line(words, said, capsys):
    assert clm.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
