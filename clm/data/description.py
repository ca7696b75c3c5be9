"""A run's text in figures. They are kept in the run's folder, for when the token stores are gone."""

from typing import Any

from clm.data.prepare import Prepared
from clm.data.store.token_store import TokenStore

DATA_FILE = "data.json"


def counts_of_splits(data: Prepared) -> dict[str, Any]:
    """What data.json holds: tokenizer, and the counts and document lengths of both splits."""
    return {
        "tokenizer": data.tokenizer_origin,
        "vocab_size": len(data.tokenizer),
        "train": _describe_split(data.train),
        "validation": _describe_split(data.validation),
    }


def _describe_split(store: TokenStore) -> dict[str, Any]:
    totals = store.totals
    return {**vars(totals), "bytes_per_token": totals.bytes / totals.tokens, "lengths": store.documents_by_length}
