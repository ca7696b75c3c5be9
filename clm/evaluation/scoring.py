"""Nats per token, word and byte over a whole text: exact sums, not means of batch means."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import distributed
from transformers import PreTrainedModel

from clm.data.blocks import IGNORED
from clm.data.store.token_store import TokenStore
from clm.data.store.words import has_words
from clm.evaluation.forward import TokenLosses, from_hidden_states
from clm.evaluation.windows import Windows, batches, cut
from clm.progress import StepProgress


@dataclass(frozen=True)
class Score:
    """A text's total negative log-likelihood and what it can be divided by."""

    nats: float
    tokens: int
    words: int
    bytes: int

    def metrics(self) -> dict[str, float]:
        """The numbers under the names that eval_results.json has; those of words only for a text that has words."""
        loss, per_word = self.nats / self.tokens, self.nats / max(1, self.words)
        words = has_words(self.words, self.bytes)
        return {
            "eval_loss": loss,
            "perplexity": exp(loss),
            **({"nats_per_word": per_word, "word_perplexity": exp(per_word)} if words else {}),
            "nats_per_byte": self.nats / self.bytes,
            "bits_per_byte": self.nats / math.log(2) / self.bytes,
            "eval_tokens": self.tokens,
            "eval_words": self.words,
            "eval_bytes": self.bytes,
        }


def exp(nats: float) -> float:
    """A perplexity, infinite where it is too large for a float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


class Ids(Protocol):
    """Token ids of a whole text, end to end."""

    def span(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to before `stop`."""


@dataclass(frozen=True)
class Documents:
    """Where each document lies among the ids, (documents,) int64, and the id that each of them starts from."""

    ids: Ids
    starts: np.ndarray
    lengths: np.ndarray
    first_input: int


def _batch(text: Documents, windows: Windows, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids and aligned labels, (rows, longest) int64; IGNORED labels are padding, and context."""
    documents, lengths, contexts = windows.document[rows], windows.length[rows], windows.context[rows]
    firsts = windows.start[rows] == 0
    starts = text.starts[documents] + windows.start[rows]
    labels = np.full((len(starts), int(lengths[0])), IGNORED, dtype=np.int64)
    inputs = np.full(labels.shape, text.first_input, dtype=np.int64)
    for row, (start, length, context, first) in enumerate(
        zip(starts.tolist(), lengths.tolist(), contexts.tolist(), firsts.tolist(), strict=True)
    ):
        ids = text.ids.span(start, start + length)
        labels[row, context:length] = ids[context:]
        inputs[row, 1:length] = ids[:-1]
        if not first:
            inputs[row, 0] = text.ids.span(start - 1, start)[0]
    return torch.from_numpy(inputs), torch.from_numpy(labels)


@contextmanager
def precision(device: torch.device, bf16: bool = False) -> Iterator[None]:
    """Full fp32, neither autocast nor TF32, whatever training uses; or autocast to bf16."""
    with _without_tf32(), torch.autocast(device.type, dtype=torch.bfloat16 if bf16 else None, enabled=bf16):
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Let every backend of torch multiply fp32 as IEEE says.

    A backend that was set by itself, as torch's older switches and TORCH_ALLOW_TF32_CUBLAS_OVERRIDE do, doesn't heed
    the common setting, so each is set. One that wasn't reads as the common one: hence the order, from the top.
    """
    settings = (torch.backends, torch.backends.cudnn, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = []
    for setting in settings:
        before.append(setting.fp32_precision)
        setting.fp32_precision = "none"
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


@torch.no_grad()
def document_nats(
    losses: TokenLosses,
    text: Documents,
    block_size: int,
    stride: int,
    batch_size: int,
    device: torch.device,
    interrupted: Callable[[], object] = lambda: False,
) -> np.ndarray | None:
    """Nats of each document, (documents,) float64, every token scored once.

    Under torch.distributed every rank scores its share of the same batches, and all get the whole.

    Args:
        block_size: inputs in one window, and so the longest context.
        stride: tokens from one window's start to the next's; block_size for disjoint blocks.
        batch_size: windows in one forward pass, or as many shorter ones as have no more tokens.
        device: where `losses` are computed.
        interrupted: asked before every batch; where it says so on any rank, the result is None on all of them.
    """
    rank, world_size = 0, 1
    if distributed.is_available() and distributed.is_initialized():
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    windows = cut(text.lengths, block_size, stride)
    mine = batches(windows, batch_size * block_size)[rank::world_size]
    sums = torch.zeros(len(windows.length), dtype=torch.float32, device=device)  # read once, at the end
    broken_off = False
    with StepProgress("evaluating", len(mine), show=rank == 0) as progress:
        for rows in mine:
            if interrupted():
                broken_off = True
                break
            sums[rows] = losses(*_batch(text, windows, rows)).sum(dim=1)
            progress.step()
    nats = np.bincount(windows.document, sums.cpu().double().numpy(), minlength=len(text.lengths))
    if world_size > 1:
        total = torch.from_numpy(np.append(nats, broken_off)).to(device)
        distributed.all_reduce(total)
        nats, broken_off = total.cpu().numpy()[:-1], bool(total[-1] > 0)
    return None if broken_off else nats


def score_store(
    model: PreTrainedModel,
    store: TokenStore,
    block_size: int,
    batch_size: int,
    interrupted: Callable[[], object] = lambda: False,
) -> Score | None:
    """Score every token of the store's text once, in disjoint blocks, each document starting from end-of-text, in fp32.

    Args:
        model: a GPT-2; its weights are used as they are, on the device where they are.
        block_size: targets in one forward pass, and so the longest context.
        batch_size: blocks in one forward pass, or as many shorter rows as have no more tokens.
        interrupted: as in `document_nats`.
    """
    was_training, ends = model.training, np.asarray(store.ends)
    starts = np.concatenate(([0], ends[:-1]))
    text = Documents(store, starts, ends - 1 - starts, store.end_of_text)  # each ends with an end-of-text, no target
    model.eval()
    with precision(model.device):
        nats = document_nats(
            from_hidden_states(model), text, block_size, block_size, batch_size, model.device, interrupted
        )
    model.train(was_training)
    if nats is None:
        return None
    return Score(float(nats.sum()), int(text.lengths.sum()), store.totals.words, store.totals.bytes)
