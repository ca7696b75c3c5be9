"""Text in other encodings, and bytes that are no text: told apart, read, or refused by name."""

import codecs
import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clm.data.sources.readers import encodings
from tests.data.reading import read, refusal, write

ENGLISH = "It is a truth universally acknowledged.\nThat is how it begins.\n"
FRENCH = "Le café était fermé. Il a dit « à demain ».\nLes élèves préfèrent les crêpes.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга.\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_utf16_and_utf32_are_read_with_and_without_a_mark(tmp_path, encoding, marked, suffix):
    lines = {".txt": ENGLISH, ".csv": f'text\r\n"{ENGLISH}"\r\n', ".jsonl": '{"text": "It is a truth.", "id": 1}\n'}
    data = (("\ufeff" if marked else "") + lines[suffix]).encode(encoding)
    texts, notes = read(write(tmp_path / f"a{suffix}", data))
    assert texts == ["It is a truth." if suffix == ".jsonl" else ENGLISH]
    named = encoding[:6].upper() if marked else encoding.upper()
    assert notes == [f"PATH: is {named}, and was read so"]


def test_utf16_that_is_cut_off_or_damaged_is_refused(tmp_path):
    data = ENGLISH.encode("utf-16")
    assert refusal(write(tmp_path / "a.txt", data[:-1])) == (
        f"PATH: is not utf-16 at byte {len(data) - 2} (truncated data); is that its encoding?"
    )
    assert "is not utf-16 at byte 128 (illegal" in refusal(
        write(tmp_path / "a.txt", data[:128] + b"\x00\xdc" + data[130:])
    )


def test_utf8_with_zero_bytes_stays_utf8(tmp_path):
    assert read(write(tmp_path / "a.txt", "a\0b and\0 more of it\0")) == (["a\0b and\0 more of it\0"], [])


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [
        (FRENCH, "cp1252", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (JAPANESE, "shift_jis", "cp932"),
    ],
)
def test_another_encoding_is_guessed_and_then_read(tmp_path, text, encoding, guess):
    # Among plain text, of which there mostly is more: the guess is by the lines that show something.
    whole = (ENGLISH * 30 + text) * 5
    path = write(tmp_path / "a.txt", whole.encode(encoding))
    message = refusal(path)
    assert message.startswith("PATH: is not UTF-8 at byte ")
    assert f"perhaps it is {guess}, which reads " in message and "(a guess)" in message
    assert text.splitlines()[0][:20] in message
    assert message.endswith(f"if that is right, set text_encoding to {guess}")
    assert read(path, text_encoding=guess) == ([whole], [])


def test_western_text_is_always_among_the_guesses(tmp_path):
    words = ["café", "était", "fermé", "à", "midi", "où", "les", "élèves", "mangent", "des", "crêpes"]
    for number in range(20):
        text = " ".join(random.Random(number).choices(words, k=30))
        assert 'cp1252, which reads "' in refusal(write(tmp_path / "a.txt", text.encode("cp1252")))


def test_bytes_that_are_utf8_but_for_some_are_not_another_encoding(tmp_path):
    message = refusal(write(tmp_path / "a.txt", b"caf\xc3\xa9 caf\xe9\n"))
    assert message == (
        "PATH: is not UTF-8 at byte 9 (0xe9); what comes before it is UTF-8, so it is damaged there, or two encodings "
        "are mixed; mend that place, or drop such bytes: iconv -f UTF-8 -t UTF-8 -c FILE"
    )


def test_noise_is_no_text(tmp_path):
    noise = b"\xff" + os.urandom(5000).replace(b"\0", b"\1")
    assert "of its characters are control characters, so it isn't text" in refusal(write(tmp_path / "a.txt", noise))


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_noise_that_was_made_utf8_is_refused_too(tmp_path, suffix):
    noise = os.urandom(5000).decode("latin-1")  # what `iconv -f LATIN1` makes of a zip file
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": [noise]}), path)
    else:
        write(path, noise if suffix == ".txt" else json.dumps({"text": noise}))
    assert "of its characters are control or replacement characters: it isn't text" in refusal(path)
    replaced = "".join("\ufffd" if i % 5 == 0 else "a" for i in range(1000))
    assert "20% of its characters are control or replacement" in refusal(write(tmp_path / "b.txt", replaced))


def test_some_control_characters_are_no_fault(tmp_path):
    text = "page\f one\x1b[1m bold\x1b[0m \0" + "words and more words " * 20 + "\ufffd" * 5
    assert read(write(tmp_path / "a.txt", text)) == ([text], [])


def test_a_named_encoding_is_for_what_is_not_utf8(tmp_path):
    assert read(write(tmp_path / "a.txt", FRENCH.encode("cp1252")), text_encoding="cp1252") == ([FRENCH], [])
    note = "PATH: is UTF-8, and was read so; text_encoding cp1252 is for what isn't"
    assert read(write(tmp_path / "a.txt", FRENCH), text_encoding="cp1252") == ([FRENCH], [note])
    assert read(write(tmp_path / "a.txt", ENGLISH), text_encoding="utf-16") == ([ENGLISH], [])
    # Letters of seven bits that aren't what they seem are read as the user says.
    text = JAPANESE * 2
    assert read(write(tmp_path / "a.txt", text.encode("iso2022_jp")), text_encoding="iso2022_jp") == ([text], [])
    assert refusal(write(tmp_path / "a.txt", b"abc\x81def"), text_encoding="cp1252") == (
        "PATH: is not cp1252 at byte 3 (character maps to <undefined>); is that its encoding?"
    )


@pytest.mark.parametrize("chunk", [2, 5, 1 << 20])
def test_an_encoding_is_read_in_pieces_as_in_one(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("clm.data.sources.packed.CHUNK_BYTES", chunk)
    path = write(tmp_path / "a.txt", (JAPANESE * 3).encode("shift_jis"))
    assert "".join(read(path, text_encoding="shift_jis", separator="\0")[0]) == JAPANESE * 3
    assert "".join(read(write(path, codecs.BOM_UTF16_BE + JAPANESE.encode("utf-16-be")))[0]) == JAPANESE


def test_bare_carriage_returns_and_markup_are_said(tmp_path):
    texts, notes = read(write(tmp_path / "a.txt", "one\rtwo\rthree"), separator="line")
    assert texts == ["one\rtwo\rthree"]
    assert notes == ["PATH: has bare carriage returns, which end no line here: tr '\\r' '\\n' < FILE mends that"]
    assert read(write(tmp_path / "a.txt", "one\r\ntwo\r\n"), separator="line") == (["one", "two"], [])
    _, notes = read(write(tmp_path / "a.txt", "<!DOCTYPE html><p>a</p>"))
    assert notes == ["PATH: is markup, and was read as it stands, tags and all"]
    bare = "tr '\\r' '\\n' < FILE"
    assert refusal(write(tmp_path / "a.csv", "text\rone\rtwo\r")).endswith(bare)
    assert refusal(write(tmp_path / "a.jsonl", '{"text": "a"}\r{"text": "b"}\r')).endswith(bare)


def test_byte_order_marks_inside_a_text_are_said(tmp_path):
    mark = "PATH: holds a byte order mark (U+FEFF) inside its text, where it is a letter as any other: "
    _, (note,) = read(write(tmp_path / "a.txt", "\ufeffone\n\ufefftwo\n"))
    assert note == mark + r"sed 's/\xef\xbb\xbf//g' FILE takes it out"
    _, notes = read(write(tmp_path / "a.txt", "\ufeffone\n\ufefftwo\n".encode("utf-16-le")))
    assert [line[: len(mark)] for line in notes if "UTF-16" not in line] == [mark]
    assert read(write(tmp_path / "a.txt", "\ufeffone é\n")) == (["one é\n"], [])


def test_the_share_of_control_characters_is_of_characters():
    assert encodings.control_share(b"ab\0\x01") == 0.5
    assert encodings.control_share("é\x80\ufffd…".encode()) == 0.5
    assert encodings.control_share(b"\t\n\r\x0c\x1b") == encodings.control_share(b"") == 0
