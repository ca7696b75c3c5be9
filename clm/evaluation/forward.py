"""From input ids to the loss of every target, for whatever causal model transformers loads."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from clm.data.blocks import IGNORED
from clm.errors import UserError
from clm.model.loss import token_losses

# (rows, width) int64 ids and aligned labels, both on the CPU -> (rows, width) fp32 nats on the model's device, 0 where
# the label is IGNORED.
TokenLosses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LOGITS_ELEMENTS = 2**27  # held at once where a model's head needs all of them: half a gigabyte in fp32
PROBE_TOKENS = 8


def from_hidden_states(model: PreTrainedModel) -> TokenLosses:
    """Losses by way of the last hidden states and the head's weights, a chunk of logits at a time.

    For a model whose logits are those states times those weights, as GPT-2's are.
    """
    body, weight, device = model.base_model, model.get_output_embeddings().weight, model.device
    options = _without_cache(body)

    def losses(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hidden = body(inputs.to(device), **options).last_hidden_state.flatten(0, 1)
        return _scatter(labels, device, lambda at, targets: token_losses(hidden[at], weight, targets))

    return losses


def from_logits(model: PreTrainedModel) -> TokenLosses:
    """Losses from the model's own logits, as few rows at once as LOGITS_ELEMENTS allows."""
    vocab_size, device, options = model.get_output_embeddings().weight.shape[0], model.device, _without_cache(model)

    def some_rows(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model(inputs.to(device), **options).logits.flatten(0, 1)
        chunk = max(16, LOGITS_ELEMENTS // 8 // vocab_size)

        def of_chunks(at: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            parts = zip(at.split(chunk), targets.split(chunk), strict=True)
            return torch.cat([F.cross_entropy(logits[a].float(), t, reduction="none") for a, t in parts])

        return _scatter(labels, device, of_chunks)

    def losses(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = max(1, LOGITS_ELEMENTS // (vocab_size * inputs.shape[1]))
        parts = zip(inputs.split(rows), labels.split(rows), strict=True)
        return torch.cat([some_rows(*part) for part in parts])

    return losses


def mean_of(members: Sequence[TokenLosses]) -> TokenLosses:
    """Losses of the mean of several models' probabilities; every one of them takes the same ids.

    Only each label's own probability counts, so the mean is taken of these alone.
    """
    if len(members) == 1:
        return members[0]

    def losses(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_probs = torch.stack([-member(inputs, labels) for member in members])
        return math.log(len(members)) - log_probs.logsumexp(dim=0)

    return losses


def _scatter(
    labels: torch.Tensor, device: torch.device, of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The losses of the labels that count, and 0 for the rest, which cost nothing."""
    flat = labels.flatten()
    at = (flat != IGNORED).nonzero()[:, 0]  # on the CPU, where it makes no GPU wait
    losses = torch.zeros(flat.shape, dtype=torch.float32, device=device)
    where = at.to(device)
    losses[where] = of(where, flat[at].to(device))
    return losses.view(labels.shape)


def _without_cache(module: torch.nn.Module) -> dict[str, Any]:
    accepted = inspect.signature(module.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    return {"use_cache": False} if takes_any or "use_cache" in accepted else {}


@torch.no_grad()
def probe(model: PreTrainedModel, name: str) -> TokenLosses:
    """How to get this model's losses, found by trying it on a few tokens, in fp32.

    Args:
        name: what a person calls the model.

    Raises:
        UserError: what comes later in a text changes what the model said before, so it isn't causal.
    """
    head, positions = model.get_output_embeddings(), positions_of(model) or PROBE_TOKENS
    if head is None or not hasattr(head, "weight"):
        raise UserError(f"{name}: {type(model).__name__} has no head over its vocabulary, so it isn't a language model")
    ids = torch.arange(1, 1 + min(PROBE_TOKENS, positions), device=model.device).remainder(head.weight.shape[0])
    other = ids.clone()
    other[-1] = ids[-1] - 1
    both = torch.stack([ids, other])
    logits = model(both, **_without_cache(model)).logits.float()
    tolerance = 1e-4 * logits.abs().max()
    if (logits[0, :-1] - logits[1, :-1]).abs().max() > tolerance:
        raise UserError(
            f"{name}: {type(model).__name__} isn't causal: it reads the tokens that it would have to predict"
        )
    output = model.base_model(both, **_without_cache(model.base_model))
    hidden = getattr(output, "last_hidden_state", None)
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None
    if not capped and hidden is not None and hidden.shape[-1] == head.weight.shape[-1]:
        plain = F.linear(hidden, head.weight).float()
        if plain.shape == logits.shape and torch.allclose(plain, logits, rtol=1e-5, atol=float(tolerance) / 10):
            return from_hidden_states(model)
    return from_logits(model)


def positions_of(model: PreTrainedModel) -> int | None:
    """How many positions the model has; None where nothing limits it."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions if positions and positions > 0 else None
