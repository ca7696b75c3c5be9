"""A run's text in figures, kept with the run: what it read stays known when its token stores are gone."""

from typing import Any

import numpy as np

from clm.data.prepare import Prepared
from clm.data.token_store import TokenStore

DATA_FILE = "data.json"


def describe(data: Prepared) -> dict[str, Any]:
    """What data.json holds: tokenizer, and the counts and document lengths of both splits."""
    return {
        "tokenizer": data.tokenizer_origin,
        "vocab_size": len(data.tokenizer),
        "train": _describe_split(data.train),
        "validation": _describe_split(data.validation),
    }


def _describe_split(store: TokenStore) -> dict[str, Any]:
    totals = store.totals
    return {**vars(totals), "bytes_per_token": totals.bytes / totals.tokens, "lengths": document_lengths(store)}


def document_lengths(store: TokenStore) -> list[list[int]]:
    """How many documents have how many tokens, end-of-text included: rows of (shortest, longest, documents).

    A row spans from a power of two to before the next one; rows without documents at either end are left out.
    """
    lengths = np.diff(store.ends, prepend=0)
    powers = np.frexp(lengths)[1] - 1  # 2**power <= length < 2**(power + 1)
    documents = np.bincount(powers)
    first = int(powers.min())
    return [[2**power, 2 ** (power + 1) - 1, int(documents[power])] for power in range(first, len(documents))]
