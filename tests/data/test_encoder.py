"""The fast encoder gives the ids of `tokenizers`, or isn't used."""

import itertools
import sys
import unicodedata
from types import SimpleNamespace

import gigatoken
import numpy as np
import pytest

from clm.data.sources.packed import Batch
from clm.data.store import token_store
from clm.data.store.encoder import FastEncoder, Mismatch, ReferenceEncoder
from clm.data.tokenizer import END_OF_TEXT
from tests.data.small import PIECES, Texts, mixed_text, small_tokenizer

CHARACTERS = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]


def same_ids(texts):
    tok, batch = small_tokenizer(), Batch.of(texts, False)
    for fast, reference in zip(FastEncoder(tok).encode(batch), ReferenceEncoder(tok).encode(batch), strict=True):
        np.testing.assert_array_equal(fast, reference)


def test_every_character_alone():
    same_ids([character for character in CHARACTERS if unicodedata.category(character) not in ("Cn", "Co")])


def test_every_code_point_between_letters_and_spaces():
    assert len(CHARACTERS) == 17 * 65_536 - 2_048
    parts = [CHARACTERS[start : start + 256] for start in range(0, len(CHARACTERS), 256)]
    same_ids(["".join([f"a{character} {character}" for character in part]) for part in parts])


def test_every_three_kinds_of_characters_in_a_row():
    same_ids(["".join(three) for three in itertools.product(PIECES, repeat=3)])


def test_texts_of_many_kinds_and_lengths():
    same_ids([mixed_text(size, seed=size) for size in range(1, 1_000)] + ["a" * 100_000, " " * 100_000, "\n" * 999])


@pytest.mark.parametrize("kind", [FastEncoder, ReferenceEncoder])
def test_a_special_tokens_name_in_a_text_is_text(kind):
    tok = small_tokenizer()
    ids, ends = kind(tok).encode(Batch.of([f"a{END_OF_TEXT}", "b"], False))
    assert tok.eos_token_id not in ids and ends.tolist() == [len(ids) - 1, len(ids)]
    assert tok.decode(ids) == f"a{END_OF_TEXT}b"
    assert tok(END_OF_TEXT).input_ids == [tok.eos_token_id]  # what users load is as it was


def encode_all(tmp_path, texts):
    """The store of some texts, beside the one that the reference makes, and what was said."""
    said = []
    store = token_store.open_or_build(
        tmp_path / "store", Texts(lambda: [texts]), small_tokenizer(), {"some": "print"}, say=said.append
    )
    ids, _ = ReferenceEncoder(small_tokenizer()).encode(Batch.of(texts, False))
    assert store.span(0, store.tokens)[store.span(0, store.tokens) != store.end_of_text].tolist() == ids.tolist()
    return store, said


def test_the_fast_encoder_is_the_one_that_is_used(tmp_path):
    store, said = encode_all(tmp_path, ["one text", "and another"])
    assert store.encoder == "gigatoken" and said == []


def lying_module(lie):
    class Tokenizer:
        def __init__(self, definition):
            self.true = gigatoken.Tokenizer.from_json(definition)

        from_json = classmethod(lambda cls, definition: cls(definition))

        def encode_batch(self, documents, parallel):
            true = self.true.encode_batch(documents, parallel=parallel).layout
            ids, offsets = lie(np.array(true.content.data), np.array(true.offsets.data))
            content, offsets = SimpleNamespace(data=ids), SimpleNamespace(data=offsets)
            return SimpleNamespace(layout=SimpleNamespace(content=content, offsets=offsets))

    return SimpleNamespace(Tokenizer=Tokenizer, BytesSource=gigatoken.BytesSource)


def wrong_id(ids, offsets):
    ids[-1] += 1
    return ids, offsets


def wrong_end(ids, offsets):
    offsets[-1] -= 1
    return ids, offsets


@pytest.mark.parametrize("lie", [wrong_id, wrong_end])
def test_a_fast_encoder_that_lies_is_found_out(tmp_path, monkeypatch, lie):
    monkeypatch.setitem(sys.modules, "gigatoken", lying_module(lie))
    with pytest.raises(Mismatch):
        checked = FastEncoder(small_tokenizer())
        checked.encode(Batch.of(["some words"], False))
        checked.finish()
    store, said = encode_all(tmp_path, ["some words", "and more"])
    assert store.encoder == "tokenizers"
    [line] = said
    assert "gigatoken gave other ids than tokenizers" in line


def test_a_lie_in_a_later_batch_leaves_nothing_of_the_earlier_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "gigatoken", lying_module(lambda *made: wrong_id(*made) if len(made[0]) > 9 else made)
    )
    batches = [["a b"], ["c d"], ["many more words than nine ids can make up"], ["e f"]]
    store = token_store.open_or_build(
        tmp_path / "store", Texts(lambda: batches), small_tokenizer(), {}, say=lambda line: None
    )
    ids, _ = ReferenceEncoder(small_tokenizer()).encode(Batch.of([text for [text] in batches], False))
    assert store.encoder == "tokenizers" and store.totals.documents == 4
    assert store.span(0, store.tokens)[store.span(0, store.tokens) != store.end_of_text].tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "gigatoken is not installed"),
        (SimpleNamespace(), "gigatoken can't read this tokenizer ("),
    ],
)
def test_without_the_package_it_is_tokenizers_and_says_so(tmp_path, monkeypatch, module, reason):
    monkeypatch.setitem(sys.modules, "gigatoken", module)
    store, said = encode_all(tmp_path, ["one text", "and another"])
    assert store.encoder == "tokenizers"
    [line] = said
    assert "the slow way" in line and reason in line
