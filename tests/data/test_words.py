"""Words are counted as str.split counts them, whatever the white space."""

import random
import sys

import pytest

from clm.data.store.words import count_words_and_lines


def count_words(text: bytes) -> int:
    words, lines = count_words_and_lines(text)
    assert lines == text.count(b"\n")
    return words


SPACES = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()]


@pytest.mark.parametrize(
    "text", ["", " ", "a", "a\0b \x0e c", "a\x1bb\x1fc", " a", "a ", "one two", "a\n\nb\tc\x1cd", "don't  stop"]
)
def test_small_texts(text):
    assert count_words(text.encode()) == len(text.split())


def test_every_character_that_python_calls_white_space():
    assert len(SPACES) == 29
    for space in SPACES:
        assert count_words(f"a{space}b{space}".encode()) == 2, hex(ord(space))


def test_characters_that_share_bytes_with_white_space_are_letters():
    for character in ["\x80\x84\x86\x9f¡", "ᚁ", "\u200b‐’‧\u202a‰", "⁞\u2060", "、\u3040"]:
        text = f"a{character}b c"
        assert count_words(text.encode()) == len(text.split()), ascii(character)


def test_random_mixtures():
    chance = random.Random(0)
    alphabet = [*SPACES, *"abc’“é中ー🙂", "\u200b"]
    for _ in range(500):
        text = "".join(chance.choices(alphabet, k=chance.randint(0, 60)))
        assert count_words(text.encode()) == len(text.split())
