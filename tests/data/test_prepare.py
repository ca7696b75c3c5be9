"""From a recipe's text to tokenizer and stores: found again when nothing changed, made anew when something did."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clm.config.recipe import DataOptions
from clm.data import prepare, tokenizer
from clm.data.sources import packed
from clm.data.sources.files import FileSource
from clm.data.sources.packed import Batch
from clm.data.store.encoder import ReferenceEncoder
from clm.errors import UserError
from clm.rollback import Rollback
from tests.data.small import mixed_text

OPTIONS = DataOptions(
    train_file="text.txt", document_separator="line", validation_split_percentage=10, vocab_size=300, block_size=16
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder with a text of 200 documents."""
    monkeypatch.chdir(tmp_path)
    write_text(200)


def write_text(lines):
    made = [f"{number} " + "".join(mixed_text(20, seed=number).split("\n")) for number in range(lines)]
    Path("text.txt").write_bytes("\n".join(made).encode())


def run(options=OPTIONS, verify=False, seed=42):
    """What is prepared, and what is said meanwhile."""
    said = []
    text = prepare.open_text(options, seed)
    return prepare.prepare(options, text, verify, said.append, Rollback()), said


def test_a_validation_text_that_is_far_too_large_is_said():
    lines = [f"line {number} " + "".join(mixed_text(60, seed=number).split()) for number in range(20)]
    longest = max(map(len, lines))
    lines[7] *= 30
    Path("text.txt").write_text("\n".join(lines), "utf-8")

    def holds_long_one(seed):
        batches = prepare.open_text(OPTIONS, seed).validation.documents()
        return any(len(text) > longest for batch in batches for text in batch.texts)

    for expected in (True, False):
        seed = next(seed for seed in range(100) if holds_long_one(seed) is expected)
        warnings = [line for line in run(seed=seed)[1] if line.startswith("warning: the validation text is")]
        assert len(warnings) == expected
        assert all("instead of 10 %" in line and "give validation_file" in line for line in warnings)


def mustnt(*_, **__):
    raise AssertionError("done again")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.endswith(".lock"))


def test_both_splits_together_hold_every_document_once():
    prepared, said = run()
    text = prepare.open_text(OPTIONS, 42)
    ids, ends = [], 0
    encoder = ReferenceEncoder(prepared.tokenizer)
    for split in ("train", "validation"):
        texts = [text for batch in getattr(text, split).documents() for text in batch.texts]
        store = getattr(prepared, split)
        ends += store.totals.documents
        expected = [[*encoder.encode(Batch.of([one], False))[0].tolist(), 0] for one in texts]
        assert [part.tolist() for part in np.split(store.span(0, store.tokens), store.ends[:-1])] == expected
        ids += expected
    whole = Path("text.txt").read_bytes().decode().split("\n")
    assert sorted(ids) == sorted(
        [*encoder.encode(Batch.of([line.removesuffix("\r")], False))[0].tolist(), 0] for line in whole
    )
    assert ends == 200 and prepared.validation.totals.documents == 20
    assert any("20 of 200 documents" in line for line in said)


def test_nothing_is_done_twice(monkeypatch):
    first, _ = run()
    for module, name in [(tokenizer, "train"), (FileSource, "documents")]:
        monkeypatch.setattr(module, name, mustnt)
    second, said = run()
    assert second.train.folder == first.train.folder and second.identity == first.identity
    assert "trained before on these documents" in said[0]
    assert second.tokenizer.backend_tokenizer.to_str() == first.tokenizer.backend_tokenizer.to_str()
    assert names("tokenizer") == [Path(first.tokenizer_origin).name]


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_text_gets_a_tokenizer_and_stores_of_its_own(change):
    first, _ = run()
    before = Path(first.tokenizer_origin, "tokenizer.json").read_bytes()
    if change == "size":
        write_text(201)
    else:
        os.utime("text.txt", ns=(0, 1))
    second, said = run()
    assert any("training 300 ids" in line for line in said)
    assert second.tokenizer_origin != first.tokenizer_origin and second.train.folder != first.train.folder
    assert (second.identity == first.identity) == (change == "time")  # the same text, though it was copied anew
    assert Path(first.tokenizer_origin, "tokenizer.json").read_bytes() == before
    assert len(names("tokenizer")) == 2 and len(names(".cache/tokens")) == 4


@pytest.mark.parametrize(
    ("changes", "same_tokenizer", "same_store"),
    [
        ({"vocab_size": 310}, False, False),
        ({"tokenizer_train_bytes": 10**6}, False, True),  # it may give others, but in this text doesn't
        ({"document_separator": "blank_line"}, False, False),
        ({"validation_split_percentage": 20}, False, False),
        ({"block_size": 32}, True, True),
        ({"sampling": "windows"}, True, True),
    ],
)
def test_what_shapes_the_ids_and_what_does_not(changes, same_tokenizer, same_store):
    first, _ = run()
    second, _ = run(replace(OPTIONS, **changes))
    assert (second.tokenizer_origin == first.tokenizer_origin) == same_tokenizer
    assert (second.train.folder == first.train.folder) == same_store


def test_two_tokenizers_on_one_text_have_stores_of_their_own():
    trained, _ = run()
    smaller, _ = run(replace(OPTIONS, vocab_size=280))
    loaded, said = run(replace(OPTIONS, tokenizer_path=smaller.tokenizer_origin, vocab_size=None))
    assert loaded.train.folder == smaller.train.folder != trained.train.folder
    assert loaded.identity == smaller.identity and loaded.train.vocab_size == 280
    assert not any("training" in line for line in said)


def test_a_loaded_tokenizer_of_another_size_is_refused():
    made, _ = run()
    with pytest.raises(UserError, match=f"vocab_size is 310, but the tokenizer at {made.tokenizer_origin} has 300 ids"):
        run(replace(OPTIONS, tokenizer_path=made.tokenizer_origin, vocab_size=310))


def test_a_tokenizer_that_was_cut_short_is_trained_again():
    made, _ = run()
    Path(made.tokenizer_origin, "fingerprint.json").unlink()
    again, said = run()
    assert any("training 300 ids" in line for line in said)
    assert again.tokenizer.backend_tokenizer.to_str() == made.tokenizer.backend_tokenizer.to_str()
    assert again.train.folder == made.train.folder


def test_an_existing_store_is_found_without_building_one(monkeypatch):
    text = prepare.open_text(OPTIONS, 42)
    assert prepare.existing_store(OPTIONS, text.train) is None
    assert not Path("tokenizer").exists() and not Path(".cache").exists()
    made, _ = run()
    monkeypatch.setattr(FileSource, "documents", mustnt)
    by_path = replace(OPTIONS, tokenizer_path=made.tokenizer_origin)
    assert prepare.existing_store(by_path, text.train).folder == made.train.folder
    monkeypatch.setattr(prepare.tokenizer, "load", mustnt)  # it imports transformers, which a plan shouldn't wait for
    assert prepare.existing_store(OPTIONS, text.train).folder == made.train.folder
    assert prepare.existing_store(replace(OPTIONS, vocab_size=310), text.train) is None
    shutil.rmtree(made.train.folder)
    assert prepare.existing_store(OPTIONS, text.train) is None


def test_what_is_known_before_reading_is_part_of_what_is_known_after(monkeypatch):
    known = prepare.known_identity(OPTIONS, prepare.open_text(OPTIONS, 42))
    made, _ = run()
    assert known.items() <= made.identity.items()
    assert known["vocab_size"] == 300
    assert json.loads(json.dumps(made.identity)) == made.identity


def test_verify_reads_the_text_again(monkeypatch):
    made, _ = run()
    again, _ = run(verify=True)
    assert again.identity == made.identity
    damaged = made.validation.folder / "part-00000/tokens.bin"
    data = bytearray(damaged.read_bytes())
    data[0] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(UserError, match=r"tokens\.bin: .*delete "):
        run(verify=True)


def test_small_chunks_give_the_same_stores(monkeypatch):
    whole, _ = run()
    shutil.rmtree(".cache")
    monkeypatch.setattr(packed, "CHUNK_BYTES", 1_000)
    again, _ = run()
    for split in ("train", "validation"):
        one, two = getattr(whole, split), getattr(again, split)
        np.testing.assert_array_equal(one.span(0, one.tokens), two.span(0, two.tokens))
        np.testing.assert_array_equal(one.ends, two.ends)
        assert one.totals == two.totals
