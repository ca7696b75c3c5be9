"""Text from a model: the same prompts continued, greedy and sampled, the same way every time, all at once."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_PROMPTS = ["The "]


@dataclass(frozen=True)
class Sample:
    """One continuation; `mode` is "greedy" or "sampled"."""

    prompt: str
    mode: str
    text: str


@dataclass(frozen=True)
class _Row:
    """What a row of the batch continues; with a generator, by what that draws."""

    ids: list[int]
    generator: torch.Generator | None


@torch.no_grad()
def continue_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    max_new_tokens: int = 60,
    seed: int = 0,
    top_k: int = 50,
) -> list[Sample]:
    """Each prompt continued twice: by the likeliest token, and drawn from the `top_k` likeliest with `seed`.

    A prompt starts from end-of-text, as documents do in training. What is drawn for one doesn't depend on the others.
    torch's global random state isn't touched.
    """
    was_training = model.training
    # torch.Generator is of CPUs and CUDA everywhere; what is drawn for another device is drawn on the CPU.
    device = model.device if model.device.type == "cuda" else "cpu"
    model.eval()
    context = model.config.max_position_embeddings - 1  # beside end-of-text
    max_new_tokens = min(max_new_tokens, context)
    room = context - max_new_tokens + 1  # the last new token needs no position of its own
    rows = []
    for prompt in prompts:
        ids = [tokenizer.eos_token_id, *tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"][-room:]]
        rows += [_Row(ids, None), _Row(ids, torch.Generator(device).manual_seed(seed))]
    ends, texts = _ends(model, tokenizer), [""] * len(rows)
    for places in _batches([len(row.ids) for row in rows], max_new_tokens):
        for place, new in zip(places, _continue(model, [rows[p] for p in places], max_new_tokens, top_k), strict=True):
            end = next((at for at, token in enumerate(new) if token in ends), len(new))
            texts[place] = tokenizer.decode(new[:end], skip_special_tokens=True)
    model.train(was_training)
    return [
        Sample(prompt, mode, texts[2 * at + which])
        for at, prompt in enumerate(prompts)
        for which, mode in enumerate(("greedy", "sampled"))
    ]


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end a text."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}


def _batches(lengths: list[int], max_new_tokens: int) -> Iterator[list[int]]:
    """Places of rows that go together: the longest has at most `max_new_tokens` more than the shortest.

    So it never takes more steps than one row after the other would.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and lengths[place] - lengths[batch[0]] > max_new_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _continue(model: PreTrainedModel, rows: list[_Row], max_new_tokens: int, top_k: int) -> list[list[int]]:
    """The new ids of each row.

    All rows are at the same position at any time, so that none needs padding, and attention no mask: where a shorter
    one already chooses, a longer one is still given its own next token. No number comes back from the device before
    the end; what follows a text's end is drawn in vain.
    """
    device, lengths = model.device, [len(row.ids) for row in rows]
    shortest, longest = min(lengths), max(lengths)
    given = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=device)
    is_given = torch.tensor([[at < length for at in range(longest)] for length in lengths], device=device)
    tokens, cache, options = given[:, :shortest], None, _only_last_logits(model)
    for at in range(shortest, longest + max_new_tokens):
        output = model(tokens if cache is None else tokens[:, -1:], past_key_values=cache, use_cache=True, **options)
        cache = getattr(output, "past_key_values", None)  # a model without one reads all again
        chosen = _choose(output.logits[:, -1].float(), [row.generator for row in rows], lengths, at, top_k)
        if at < longest:
            chosen = torch.where(is_given[:, at], given[:, at], chosen)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
    return [row[length : length + max_new_tokens] for row, length in zip(tokens.tolist(), lengths, strict=True)]


def _choose(
    logits: torch.Tensor, generators: list[torch.Generator | None], lengths: list[int], at: int, top_k: int
) -> torch.Tensor:
    """The token of each row at position `at`: the likeliest, or drawn from the `top_k` likeliest.

    To draw is to divide each probability by a number from the exponential distribution, and take the largest: as
    torch.multinomial does, which checks its input in a way that a GPU has to be waited for.
    """
    drawing = [row for row, generator in enumerate(generators) if generator is not None and at >= lengths[row]]
    if drawing:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        probs = logits.masked_fill(logits < least, float("-inf")).softmax(-1)
        scores = logits.clone()
        for row in drawing:
            drawn = torch.empty(probs.shape[-1], device=generators[row].device)
            scores[row] = probs[row] / drawn.exponential_(1, generator=generators[row]).to(probs.device)
        logits = scores
    return logits.argmax(-1)


def _only_last_logits(model: PreTrainedModel) -> dict[str, Any]:
    """Options by which a model computes the logits of the last position only, where it can."""
    forwards = [vars(kind)["forward"] for kind in type(model).__mro__ if "forward" in vars(kind)]
    can = any("logits_to_keep" in inspect.signature(forward).parameters for forward in forwards)
    return {"logits_to_keep": 1} if can else {}
