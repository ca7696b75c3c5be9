"""Nats per token, word and byte over a whole text: exact sums, not means of batch means."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed
from transformers import PreTrainedModel

from clm.data.token_store import TokenStore
from clm.progress import StepProgress
from clm.training.loss import IGNORED, token_losses


@dataclass(frozen=True)
class Score:
    """A text's total negative log-likelihood and what it can be divided by."""

    nats: float
    tokens: int
    words: int
    bytes: int

    def metrics(self) -> dict[str, float]:
        """The numbers under the names that eval_results.json has."""
        loss = self.nats / self.tokens
        return {
            "eval_loss": loss,
            "perplexity": _exp(loss),
            "word_perplexity": _exp(self.nats / self.words) if self.words else math.nan,
            "bits_per_byte": self.nats / math.log(2) / self.bytes,
            "eval_tokens": self.tokens,
            "eval_words": self.words,
            "eval_bytes": self.bytes,
        }


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Rows:
    """Where the scored pieces of a text lie in its store: `length` targets from `start`, a document's first or not."""

    starts: np.ndarray
    lengths: np.ndarray
    first: np.ndarray


def cut_into_rows(ends: np.ndarray, block_size: int) -> Rows:
    """Cut each document into disjoint blocks of at most `block_size` targets, longest first.

    Args:
        ends: (documents,) where each document ends in the store, end-of-text included; that is no target.
    """
    ends = np.asarray(ends)
    document_starts = np.concatenate(([0], ends[:-1]))
    lengths = ends - 1 - document_starts
    blocks = -(-lengths // block_size)
    document = np.repeat(np.arange(len(ends)), blocks)
    number = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    starts = document_starts[document] + number * block_size
    rest = lengths[document] - number * block_size
    rows = Rows(starts, np.minimum(rest, block_size), number == 0)
    # Rows of like length share a batch, so that short documents cost no padding.
    order = np.argsort(-rows.lengths, kind="stable")
    return Rows(rows.starts[order], rows.lengths[order], rows.first[order])


def _batch_slices(lengths: np.ndarray, batch_tokens: int) -> list[slice]:
    """Runs of rows, longest first, that with padding take at most `batch_tokens` tokens, or are one row."""
    slices, at = [], 0
    while at < len(lengths):
        rows = max(1, batch_tokens // int(lengths[at]))
        slices.append(slice(at, at + rows))
        at += rows
    return slices


def _batches(store: TokenStore, rows: Rows, slices: list[slice]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Input ids and aligned labels, (rows, longest row) int64; a document's first input is end-of-text."""
    for batch in slices:
        starts, lengths, first = rows.starts[batch], rows.lengths[batch], rows.first[batch]
        width = int(lengths[0])
        labels = np.full((len(starts), width), IGNORED, dtype=np.int64)
        inputs = np.full((len(starts), width), store.end_of_text, dtype=np.int64)
        for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            ids = store.span(start, start + length)
            labels[row, :length] = ids
            inputs[row, 1:length] = ids[:-1]
            if not first[row]:
                inputs[row, 0] = store.span(start - 1, start)[0]
        yield torch.from_numpy(inputs), torch.from_numpy(labels)


@contextmanager
def _full_fp32(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32, whatever training uses."""
    precision = torch.backends.fp32_precision
    torch.backends.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.fp32_precision = precision


@torch.no_grad()
def score_store(
    model: PreTrainedModel,
    store: TokenStore,
    block_size: int,
    batch_size: int,
    interrupted: Callable[[], object] = lambda: False,
) -> Score | None:
    """Score every token of the store's text once, each document starting from end-of-text, in fp32.

    Under torch.distributed every rank scores its share of the same batches, and all get the whole sum.

    Args:
        model: a GPT-2; its weights are used as they are, on the device where they are.
        block_size: targets in one forward pass, and so the longest context.
        batch_size: blocks in one forward pass, or as many shorter rows as have no more tokens.
        interrupted: asked before every batch; where it says so on any rank, there is no score on all of them.
    """
    was_training, device = model.training, model.device
    model.eval()
    rank, world_size = 0, 1
    if distributed.is_available() and distributed.is_initialized():
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    rows = cut_into_rows(store.ends, block_size)
    mine = _batch_slices(rows.lengths, batch_size * block_size)[rank::world_size]
    nats = torch.zeros((), dtype=torch.float64, device=device)
    tokens, broken_off = torch.zeros((2,), dtype=torch.int64, device=device)
    with StepProgress("evaluating", len(mine), show=rank == 0) as progress, _full_fp32(device):
        for inputs, labels in _batches(store, rows, mine):
            if interrupted():
                broken_off += 1
                break
            labels = labels.to(device)
            hidden = model.transformer(inputs.to(device), use_cache=False).last_hidden_state
            nats += token_losses(hidden, model.lm_head.weight, labels).sum(dtype=torch.float64)
            tokens += (labels != IGNORED).sum()
            progress.step()
    if world_size > 1:
        distributed.all_reduce(nats)
        distributed.all_reduce(tokens)
        distributed.all_reduce(broken_off)
    model.train(was_training)
    if broken_off:
        return None
    totals = store.totals
    return Score(nats.item(), int(tokens.item()), totals.words, totals.bytes)


def unigram_loss(train: TokenStore, validation: TokenStore) -> float:
    """What a model scores that knows only how often each id occurs in training, in nats a token of validation.

    Add-one smoothing; end-of-text, which is never a scored target, is left out on both sides. A trained model must be
    well below it.
    """
    seen, scored = train.counts + 1.0, validation.counts.astype(np.float64)
    seen[train.end_of_text] = scored[train.end_of_text] = 0.0
    present = scored > 0
    return float(-(scored[present] * np.log(seen[present] / seen.sum())).sum() / scored.sum())
