"""Text from a model: the same prompts continued, greedy and sampled, the same way every time."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_PROMPTS = ["The "]


@dataclass(frozen=True)
class Sample:
    """One continuation; `mode` is "greedy" or "sampled"."""

    prompt: str
    mode: str
    text: str


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

    A prompt starts from end-of-text, as documents do in training. torch's global random state is left as it was.
    """
    was_training, device = model.training, model.device
    model.eval()
    context = model.config.max_position_embeddings - 1  # beside end-of-text
    max_new_tokens = min(max_new_tokens, context)
    room = context - max_new_tokens + 1  # the last new token needs no position of its own
    samples = []
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for prompt in prompts:
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"][-room:]
            ids = torch.tensor([[tokenizer.eos_token_id, *ids]], device=device)
            for mode, settings in (
                ("greedy", {"do_sample": False}),
                ("sampled", {"do_sample": True, "top_k": top_k}),
            ):
                torch.manual_seed(seed)
                out = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=max_new_tokens,
                    pad_token_id=tokenizer.eos_token_id,
                    **settings,
                )
                text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
                samples.append(Sample(prompt, mode, text))
    model.train(was_training)
    return samples
