import random
from collections import Counter
from itertools import pairwise

import pytest

from clm.data.sources import packed
from clm.data.sources.documents import Notes
from clm.data.sources.holdout import HoldOut, Side
from clm.data.sources.packed import Batch
from clm.data.sources.stretches import cut_stretches
from clm.errors import UserError


class Texts:
    """A source of given batches."""

    name, origin, size_bytes, bytes_read = "texts", "the texts", None, 0
    notes = Notes()

    def __init__(self, *batches):
        self.batches = [Batch.of(*batch) for batch in batches]

    def fingerprint(self):
        return {"texts": len(self.batches)}

    def documents(self):
        return iter(self.batches)


def whole(batches):
    texts, goes_on = [], False
    for batch in batches:
        first, *others = batch.texts
        texts = [*texts[:-1], texts[-1] + first] if goes_on else [*texts, first]
        texts += others
        goes_on = batch.continues
    assert not goes_on
    return texts


def divide(source, percentage=5, seed=42, survey=True):
    held_out = HoldOut(source, percentage, seed, survey)
    return whole(Side(held_out, False).documents()), whole(Side(held_out, True).documents()), held_out.note


NUMBERED = [f"document {number}" for number in range(1000)]


def test_a_percentage_of_the_documents_is_held_out():
    train, validation, note = divide(Texts((NUMBERED, False)))
    assert len(validation) == 50
    assert sorted(train + validation) == sorted(NUMBERED)
    assert "50 of 1,000 documents of the texts" in note


def test_the_choice_depends_on_the_seed_and_not_on_order_or_batches():
    shuffled = random.Random(0).sample(NUMBERED, 1000)
    _, validation, _ = divide(Texts((NUMBERED, False)))
    _, again, _ = divide(Texts((shuffled[:10], False), (shuffled[10:], False)))
    _, other, _ = divide(Texts((NUMBERED, False)), seed=43)
    assert set(again) == set(validation) != set(other)
    # Spread over the text: the chance that none of 50 falls into one given quarter is below one in a million.
    assert len({NUMBERED.index(text) // 250 for text in validation}) == 4


def test_equal_documents_fall_on_the_same_side():
    train, validation, _ = divide(Texts((NUMBERED * 3, False)))
    assert not set(train) & set(validation)
    assert len(validation) == 150
    assert set(Counter(validation).values()) == {3}


def test_documents_over_several_batches_stay_whole():
    texts = [f"start {number} middle end {number}" for number in range(100)]
    batches = []
    for text in texts:
        batches += [([text[:6]], True), ([text[6:12]], True), ([text[12:]], False)]
    expected = divide(Texts((texts, False)), percentage=20)
    assert divide(Texts(*batches), percentage=20) == expected
    assert len(expected[1]) == 20
    chained = [(["a1", "b"], True), (["2", "c"], True), (["3"], True), (["4", "d5"], False)]
    assert set(map(tuple, divide(Texts(*chained), 50)[:2])) == set(
        map(tuple, divide(Texts((["a1", "b2", "c34", "d5"], False)), 50)[:2])
    )


def test_without_a_survey_the_share_is_close_and_long_documents_are_trained_on():
    many = [f"document {number}" for number in range(20_000)]
    long = [(["long "], True), (["longer "], True), (["longest", *many], False)]
    train, validation, note = divide(Texts(*long), survey=False)
    assert train[0] == "long longer longest"
    assert 900 < len(validation) < 1100  # 1000, standard deviation 31
    assert sorted(train[1:] + validation) == sorted(many)
    assert "about 5 %" in note


def test_no_piece_of_a_long_document_is_held_out_without_a_survey():
    long = [piece for n in range(30) for piece in [([f"a{n} "], True), ([f"b{n} "], True), ([f"c{n}"], False)]]
    train, validation, _ = divide(Texts(*long, (["x", "y", "z", "u", "v", "w"], False)), percentage=50, survey=False)
    assert train[:30] == [f"a{n} b{n} c{n}" for n in range(30)]
    assert sorted(train[30:] + validation) == sorted("xyzuvw")


def test_few_documents_are_divided_by_stretches_of_lines():
    text = "".join(f"line {number} of the text\n" for number in range(2000))
    for batches in [[([text], False)], [([text[:9999]], True), ([text[9999:]], False)]]:
        train, validation, note = divide(Texts(*batches))
        assert sorted("".join(train + validation).splitlines(True)) == sorted(text.splitlines(True))
        assert 5 <= len(validation) <= 10  # 10 stretches, some of them neighbours
        assert all(part in text and part.endswith("\n") for part in train + validation)
        assert 0.04 < len("".join(validation)) / len(text) < 0.06
        assert "10 of " in note and "stretches of lines of the texts" in note


def test_blank_lines_that_end_a_document_stay_with_its_last_line():
    text = "".join(f"line {number}\n" for number in range(200)) + "\n" * 300
    for seed in range(20):  # in about half of them they would fall on the other side than what precedes them
        train, validation, _ = divide(Texts(([text], False)), percentage=50, seed=seed)
        assert len("".join(train + validation)) == len(text)


def test_two_lines_can_be_divided_and_one_cannot():
    train, validation, _ = divide(Texts((["one\ntwo"], False)))
    assert sorted(train + validation) == ["one\n", "two"]
    for texts in (["one"], ["one\n\n\n"], ["one\none\n"], ["one"] * 30):
        with pytest.raises(UserError, match="give validation_file"):
            divide(Texts((texts, False)))


@pytest.mark.parametrize("letters", ["ACGT", "กขคงจฉชซ", "abc def ghi "])
@pytest.mark.parametrize("pieces", [1, 3])
def test_one_line_is_divided_inside(letters, pieces):
    text = "".join(random.Random(0).choices(letters, k=9_000)).strip()
    cuts = [round(len(text) * number / pieces) for number in range(pieces + 1)]
    batches = [([text[a:b]], b < len(text)) for a, b in pairwise(cuts)]
    train, validation, note = divide(Texts(*batches))
    assert sorted("".join(train + validation)) == sorted(text) and all(part in text for part in train + validation)
    assert 5 <= len(validation) <= 11  # 10 stretches, some of them neighbours
    assert 0.03 < len("".join(validation)) / len(text) < 0.07
    assert "stretches of text of the texts" in note
    if " " in letters:
        assert all(part == text[: len(part)] or part[0] == " " for part in train + validation)


@pytest.mark.parametrize("lengths", [[40_000, 40_000], [30_000, 20, 20, 30_000], [60_000, *[90] * 100]], ids=str)
def test_a_few_very_long_lines_are_divided_inside(lengths):
    chance = random.Random(0)
    lines = ["".join(chance.choices("abc def ghi ", k=length)).strip() for length in lengths]
    for seed in range(10):  # whole lines would make up to half of the text, or nine tenths
        text = "\n".join(lines)
        train, validation, note = divide(Texts(([text], False)), seed=seed)
        assert sum(map(len, train + validation)) == len(text)
        assert sum(map(len, validation)) <= 0.1 * len(text), note


def test_no_letter_is_parted_from_its_marks():
    text = "ก็" * 5_000
    train, validation, _ = divide(Texts((["".join(random.Random(0).choices(["ก็", "ขี้", "คำ"], k=5_000))], False)))
    assert validation and not [part for part in train + validation if part[0] in "็ี้ำ"[:3]]
    with pytest.raises(UserError, match="give validation_file, or more text"):  # all stretches are the same
        divide(Texts(([text], False)))


def test_one_line_of_many_documents_is_told_what_parts_them():
    line = "<|endoftext|>".join(f"document {number}" for number in range(1000))
    with pytest.raises(UserError) as caught:
        divide(Texts(([line], False)))
    assert str(caught.value) == (
        "the texts: has too few documents and lines to set some apart for validation, and holds <|endoftext|> 999 "
        "times: if that stands between documents, set document_separator to <|endoftext|>; else give validation_file"
    )


def test_stretches_lose_nothing():
    rng = random.Random(0)
    for _ in range(2000):
        texts = ["".join(rng.choices(["a", "bb", " ", "\n", "\r\n"], k=rng.randint(1, 12))) + "x" for _ in range(3)]
        batches = [Batch.of(texts[:2], rng.random() < 0.5), Batch.of(texts[2:], False)]
        length, within = rng.randint(1, 6), rng.random() < 0.5
        stretches, document = [""], ""
        found = []
        for text, stretch_ends, document_ends in cut_stretches(batches, length, within):
            stretches[-1] += text
            document += text
            if stretch_ends:
                assert document_ends or len(stretches[-1]) >= length
                assert document_ends or within or stretches[-1].endswith("\n")
                assert stretches[-1].strip()
                stretches.append("")
            if document_ends:
                found.append(document)
                document = ""
        assert found == whole(batches)
        assert "".join(stretches) == "".join(texts)


def test_a_huge_document_is_divided_in_pieces(monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 200)
    lines = [f"line {number} of a long book\n" for number in range(500)]
    held_out = HoldOut(Texts(*[([line], True) for line in lines], (["end"], False)), 5, 42, True)
    sizes = [sum(map(len, batch.texts)) for batch in Side(held_out, False).documents()]
    assert sum(sizes) > 10_000
    assert max(sizes) < 300


def test_a_source_that_changed_since_the_survey_is_refused():
    source = Texts((NUMBERED, False))
    held_out = HoldOut(source, 5, 42, True)
    list(Side(held_out, False).documents())
    source.batches.append(Batch.of(["new"], False))
    with pytest.raises(UserError, match="the texts: changed"):
        list(Side(held_out, True).documents())


def test_the_fingerprint_names_the_side_and_the_rule():
    source = Texts((NUMBERED, False))
    prints = [
        Side(HoldOut(source, p, s, True), v).fingerprint()
        for p, s, v in [(5, 1, True), (5, 1, False), (6, 1, True), (5, 2, True)]
    ]
    assert len(set(map(str, prints))) == 4
