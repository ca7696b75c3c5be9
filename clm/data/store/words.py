"""Counting words in bytes, as `str.split` would find them, at the speed of numpy; and whether a text has any."""

import numpy as np

BYTES_A_WORD = 50  # on the average; where there are more, what white space parts aren't words: English has 6
NO_WORDS = f"left out: the text has less than one white-space word in {BYTES_A_WORD} bytes"

_ASCII_SPACE = np.zeros(256, dtype=bool)
_ASCII_SPACE[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True
# Every white-space character beyond ASCII, in UTF-8: first byte -> the bytes that may follow.
_WIDE_SPACE = {
    0xC2: [b"\x85", b"\xa0"],
    0xE1: [b"\x9a\x80"],
    0xE2: [*(bytes([0x80, last]) for last in (*range(0x80, 0x8B), 0xA8, 0xA9, 0xAF)), b"\x81\x9f"],
    0xE3: [b"\x80\x80"],
}


def count_words_and_lines(text: bytes) -> tuple[int, int]:
    """Runs of characters that aren't white space, as `len(text.decode().split())` counts them, and newlines.

    Args:
        text: UTF-8.
    """
    if not text:
        return 0, 0
    data = np.frombuffer(text, np.uint8)
    is_space = data <= 32
    if (data < 9).any() or (data - 14 < 14).any():  # control characters that aren't white space: rare, and slower
        is_space = _ASCII_SPACE[data]
    if not text.isascii():
        _mark_wide_spaces(text, data, is_space)
    words = int(np.count_nonzero(is_space[:-1] > is_space[1:])) + (not is_space[0])
    return words, int(np.count_nonzero(data == 10))


def has_words(words: int, bytes: int) -> bool:
    """Whether a text's words are worth dividing by: not in Chinese, Japanese or Thai, or in DNA."""
    return words * BYTES_A_WORD >= bytes > 0


def _mark_wide_spaces(text: bytes, data: np.ndarray, is_space: np.ndarray) -> None:
    for first, endings in _WIDE_SPACE.items():
        at = np.flatnonzero(data == first)
        if not at.size:
            continue
        second = data[np.minimum(at + 1, len(data) - 1)]
        for start in at[np.isin(second, [ending[0] for ending in endings])].tolist():
            for ending in endings:
                if text.startswith(ending, start + 1):
                    is_space[start : start + 1 + len(ending)] = True
