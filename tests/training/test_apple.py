"""What Apple's GPUs lack, or keep apart: float64, and a random generator of their own."""

import pytest
import torch

from clm.config.recipe import ModelOptions
from clm.model import generation
from clm.model.generation import continue_prompts
from clm.model.gpt2 import fresh_model
from clm.training.checkpoint import rng
from clm.training.step import read
from tests.data.small import small_tokenizer


def test_the_numbers_of_a_step_need_no_float64_on_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "double", lambda _: pytest.fail("MPS has no float64"), raising=False)
    assert read(torch.tensor(7.0) - torch.tensor(3.0), None, 0.5) == [4.0, None, 0.5]


def test_the_generator_of_an_apple_gpu_is_kept(monkeypatch):
    own = [torch.tensor([1, 2], dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: own[0])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: own.__setitem__(0, state))
    kept = rng.get()
    own[0] = torch.tensor([9, 9], dtype=torch.uint8)
    rng.put(kept)
    assert own[0].tolist() == [1, 2]
    rng.put({key: value for key, value in kept.items() if key != "mps"})  # of a checkpoint from before
    assert own[0].tolist() == [1, 2]


def test_samples_are_drawn_by_a_generator_of_the_cpu(monkeypatch):
    tokenizer = small_tokenizer()
    model = fresh_model(ModelOptions(n_layer=1, n_head=1, n_embd=8), 32, tokenizer)
    expected = continue_prompts(model, tokenizer, ["the word", ""], max_new_tokens=5)
    places, kind, proceed = [], type(model), generation._continue

    def on_the_cpu(model, rows, *args):
        places.extend(row.generator.device.type for row in rows if row.generator is not None)
        with monkeypatch.context() as inside:
            inside.setattr(kind, "device", torch.device("cpu"))
            return proceed(model, rows, *args)

    monkeypatch.setattr(generation, "_continue", on_the_cpu)
    monkeypatch.setattr(kind, "device", torch.device("mps"))
    assert continue_prompts(model, tokenizer, ["the word", ""], max_new_tokens=5) == expected
    assert places == ["cpu", "cpu"]


def test_what_the_cpu_drew_is_brought_to_the_other_device():
    logits = torch.zeros(2, 9, device="meta")  # stands for any that isn't the CPU: torch refuses to divide across two
    chosen = generation._choose(logits, [None, torch.Generator("cpu")], [1, 1], at=1, top_k=3)
    assert chosen.device.type == "meta" and chosen.shape == (2,)
