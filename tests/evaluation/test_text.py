"""Documents become the ids that the tokenizer itself gives, and are counted as they are."""

import copy

import numpy as np
import pytest
import transformers
from tokenizers import normalizers

from clm.data.sources import packed
from clm.data.sources.files import FileSource, Reading
from clm.evaluation.text import encode
from tests.data.small import mixed_text, small_tokenizer


def with_a_normalizer():
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.backend_tokenizer.normalizer = normalizers.Prepend("▁")
    return tokenizer


TOKENIZERS = {
    "one that takes pieces": small_tokenizer,
    "one that needs whole documents": with_a_normalizer,
    "a slow one": transformers.ByT5Tokenizer,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_ids_and_counts_of_documents_however_long(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 400)  # so that long documents come in pieces
    texts = [mixed_text(300, seed=1), "short", mixed_text(90, seed=2)]
    (tmp_path / "text.txt").write_text("<sep>".join(texts), "utf-8", newline="")
    source, tokenizer = FileSource([tmp_path / "text.txt"], Reading("text", "<sep>"), tmp_path), TOKENIZERS[kind]()
    read = whole_documents(source)
    assert len(read) == 3 and any(batch.continues for batch in source.documents())
    encoded = encode(source, tokenizer, False, print)
    ids = [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in read]
    assert encoded.tokens.tolist() == [len(of_text) for of_text in ids]
    assert encoded.span(0, int(encoded.tokens.sum())).tolist() == list(np.concatenate(ids))
    assert encoded.words.tolist() == [len(text.split()) + text.count("\n") for text in read]
    assert encoded.bytes.tolist() == [len(text.encode()) for text in read]
    assert encoded.starts.tolist() == [0, *np.cumsum(encoded.tokens)[:-1]]


def whole_documents(source):
    texts, going_on = [], False
    for batch in source.documents():
        for text in batch.texts:
            texts = [*texts[:-1], texts[-1] + text] if going_on else [*texts, text]
            going_on = False
        going_on = batch.continues
    return texts
