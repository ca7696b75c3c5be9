"""The byte-level BPE tokenizer: the same for the same text, without loss, and loaded as any other."""

import json
import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from clm.data import tokenizer
from clm.data.tokenizer import END_OF_TEXT
from clm.errors import UserError
from tests.data.small import Texts, mixed_text, small_tokenizer


def train(texts, vocab_size=400, max_bytes=10**9, say=print):
    return tokenizer.train(Texts(lambda: [[text] for text in texts]), vocab_size, max_bytes, say)


def characters(seed, count=300):
    """Characters of all planes: what UTF-8 writes in one, two, three and four bytes, NUL with them."""
    chance = random.Random(seed)
    ranges = [range(0x80), range(0x80, 0x800), range(0x800, 0xD800), range(0xE000, 0x10000), range(0x10000, 0x110000)]
    return "\0" + "".join(chr(chance.choice(chance.choice(ranges))) for _ in range(count))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers") / "small"
    tokenizer.save(small_tokenizer(), folder, {"some": "print"})
    return folder


def test_the_same_texts_give_the_same_file(tmp_path):
    texts = [mixed_text(3_000, seed=seed) for seed in range(3)]
    for name in ("one", "two"):
        tokenizer.save(train(texts), tmp_path / name, {})
    one, two = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two")]
    assert one == two
    assert train(texts[:2]).backend_tokenizer.to_str().encode() != one


def test_a_size_is_met_and_the_first_ids_are_end_of_text_and_the_bytes():
    tok = train([mixed_text(3_000)], vocab_size=400)
    assert len(tok) == 400
    assert sorted(tok.convert_tokens_to_ids(sorted(pre_tokenizers.ByteLevel.alphabet()))) == list(range(1, 257))
    assert tok.bos_token_id == tok.eos_token_id == tok.unk_token_id == 0
    assert tok.convert_ids_to_tokens(0) == tok.bos_token == tok.eos_token == tok.unk_token == END_OF_TEXT


@pytest.mark.parametrize("seed", range(20))
def test_any_text_comes_back(saved, seed):
    tok = AutoTokenizer.from_pretrained(saved)
    for text in (characters(seed), " " + characters(seed, 3) + " .", mixed_text(100, seed).replace(END_OF_TEXT, "")):
        ids = tok(text).input_ids
        assert tok.decode(ids) == text and tok.eos_token_id not in ids


def test_what_is_saved_loads_as_any_tokenizer_with_the_same_ids(saved):
    text = mixed_text(1_000) + END_OF_TEXT
    ids = small_tokenizer()(text).input_ids
    for loaded in (AutoTokenizer.from_pretrained(saved), tokenizer.load(str(saved), str(saved.parent / "cache"))):
        made = loaded(text)
        assert made.input_ids == ids
        assert set(made) == {"input_ids", "attention_mask"}  # a GPT-2 adds token_type_ids, if any, to its input
        assert (loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id, len(loaded)) == (0, 0, 0, 700)
        assert ids.count(0) == text.count(END_OF_TEXT)  # users may write it


def test_it_is_saved_whole_with_its_fingerprint(saved, tmp_path):
    assert tokenizer.trained_with(saved) == {"some": "print"}
    assert tokenizer.trained_with(tmp_path) is None
    (tmp_path / "fingerprint.json").write_text("{")
    assert tokenizer.trained_with(tmp_path) is None
    assert [path.name for path in saved.parent.iterdir()] == ["small"]


def test_saving_takes_the_place_of_the_one_before(tmp_path):
    for number in (1, 2):
        tokenizer.save(small_tokenizer(), tmp_path / "small", {"number": number})
    assert tokenizer.trained_with(tmp_path / "small") == {"number": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_too_little_text_says_how_far_it_goes():
    # 256 bytes, end-of-text, and the merges ab, abc and " abc".
    with pytest.raises(UserError, match="vocab_size is 1,000, but the training text yields only 260 ids: give more"):
        train(["abc abc abc"], vocab_size=1_000)


def test_only_the_first_bytes_are_read_and_that_is_said():
    given, said = [], []

    def long():
        for _ in range(1_000):
            given.append(f"é{len(given):03} some words and others that occur " * 20)
            yield [given[-1]]

    tok = tokenizer.train(Texts(long), 270, 5_000, said.append)
    size = len(given[0].encode())
    assert (len(given) - 1) * size < 5_000 <= len(given) * size
    assert len(tok) == 270
    taken = f"{len(given) * size:,} bytes of documents at its beginning"
    assert said == [f"tokenizer: learnt from {taken} (tokenizer_train_bytes)"]
    all_of_it = train(given, vocab_size=270)
    assert all_of_it.backend_tokenizer.to_str() == tok.backend_tokenizer.to_str()


def test_a_sample_of_a_text_of_known_size_is_spread_over_it():
    texts, said = [f"w{number:03}x some words" for number in range(1_000)], []
    source = Texts(lambda: [texts[:500], texts[500:]])
    source.size_bytes = sum(map(len, texts))
    tok = tokenizer.train(source, 270, source.size_bytes // 10, said.append)
    assert said == ["tokenizer: learnt from 1,600 bytes of documents spread over the text (tokenizer_train_bytes)"]
    every_tenth = train(texts[::10], vocab_size=270)
    assert tok.backend_tokenizer.to_str() == every_tenth.backend_tokenizer.to_str()


def test_a_text_within_the_bound_is_learnt_from_whole():
    said = []
    train([mixed_text(3_000)], max_bytes=10**9, say=said.append)
    assert said == []


def slow_tokenizer(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))


def no_end(folder):
    made = Tokenizer(models.BPE({"a": 0}, []))
    PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(folder)


def not_json(folder):
    (folder / "tokenizer.json").write_text("{")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def cut_short(folder):
    (folder / "tokenizer.json").write_text('{"added_tokens": [], "model": {"type": "BPE"}}')


def own_code(folder):
    auto_map = {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Tokenizer", "auto_map": auto_map}))
    (folder / "code.py").write_text("open('ran', 'w')\nclass Tokenizer: pass\n")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, "no tokenizer could be loaded from there"),
        (slow_tokenizer, r"not a fast tokenizer \(no tokenizer.json\)"),
        (no_end, r"it has no end-of-text token \(eos_token\)"),
        (not_json, "no tokenizer could be loaded from there"),
        (cut_short, r"no tokenizer could be loaded from there \(Missing vocab/merges"),
        (own_code, "no tokenizer could be loaded from there"),
    ],
)
def test_what_is_no_tokenizer_for_us_is_refused_in_one_line(tmp_path, monkeypatch, make, reason):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    with pytest.raises(UserError, match=f"tokenizer_path '{folder}': {reason}") as caught:
        tokenizer.load(str(folder), str(tmp_path / "cache"))
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()
