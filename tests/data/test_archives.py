"""Compressed files and archives, by their bytes: read member by member, or refused by name."""

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
import warnings
import zipfile

import pytest
import zstandard

from clm.data.sources.readers import compression
from tests.data.reading import read, refusal, write

PACK = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def as_zip(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings(action="ignore"):
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def as_tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = {".zip": as_zip, ".tar": as_tar}


@pytest.mark.parametrize("suffix", PACK)
def test_content_beats_the_name(tmp_path, suffix):
    packed = PACK[suffix](b"some words")
    assert read(write(tmp_path / f"a.txt{suffix}", packed)) == (["some words"], [])
    note = "PATH: is compressed, whatever its name says, and was read so"
    assert read(write(tmp_path / "a.txt", packed)) == (["some words"], [note])
    note = "PATH: is not compressed, whatever its name says, and was read so"
    assert read(write(tmp_path / f"a.txt{suffix}", b"some words")) == (["some words"], [note])
    assert read(write(tmp_path / f"a.jsonl{suffix}", PACK[suffix](b'{"text": "a"}'))) == (["a"], [])
    twice = PACK[suffix](PACK[suffix](b"some words"))
    assert read(write(tmp_path / f"a.txt{suffix}{suffix}", twice)) == (["some words"], [])
    assert "more than three times" in refusal(write(tmp_path / "a.txt", PACK[suffix](PACK[suffix](twice))))


@pytest.mark.parametrize("suffix", [".bz2", ".xz"])
def test_streams_that_follow_each_other_or_are_cut_short(tmp_path, suffix):
    two = PACK[suffix](b"some ") + PACK[suffix](b"words")
    assert read(write(tmp_path / f"a.txt{suffix}", two))[0] == ["some words"]
    assert "PATH: is cut short and ends after " in refusal(write(tmp_path / f"a.txt{suffix}", two[:-1]))
    assert "PATH: is damaged after 10 bytes" in refusal(write(tmp_path / f"a.txt{suffix}", two + b"garbage" * 3))


@pytest.mark.parametrize("suffix", PACK)
def test_what_unpacks_to_far_more_than_text_does_is_refused_in_flat_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(compression, "BOMB_BYTES", 1 << 20)
    path = write(tmp_path / f"a.txt{suffix}", PACK[suffix](b"a" * 100_000_000))
    tracemalloc.start()
    try:
        assert refusal(path) == "PATH: unpacks to more than 250 times its size; no text does"
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ARCHIVE)
def test_members_are_read_one_by_one_by_their_own_kind(tmp_path, suffix):
    members = [
        ("b.txt", b"one\n\ntwo"),
        ("sub/a.jsonl", b'{"text": "three"}\n{"text": null}\n'),
        ("c.csv", b"id;text\n1;four\n"),
        ("../../d.md", b"five"),
        ("/e.txt.gz", gzip.compress(b"six")),
        ("f.txt", "seven".encode("utf-16")),
        ("__MACOSX/._b.txt", b"\0\5\26\7"),
        (".hidden.txt", b"no"),
        ("README.md", b"no"),
        ("g.png", b"\x89PNG"),
        ("empty.txt", b""),
    ]
    path = write(tmp_path / f"a{suffix}", ARCHIVE[suffix](members))
    texts, notes = read(path, separator="blank_line")
    assert texts == ["one", "two", "three", "four", "five", "six", "seven"]
    assert "PATH: left out: 1 .png (4 bytes) of a kind that isn't read; README.md, about the text" in notes
    assert "PATH, sub/a.jsonl, line 2: 'text' is null, and the row was left out" in notes
    assert [file.name for file in tmp_path.rglob("*")] == [path.name]  # nothing was unpacked


@pytest.mark.parametrize("suffix", PACK)
def test_a_tar_may_be_compressed(tmp_path, suffix):
    data = PACK[suffix](as_tar([("a.txt", b"one"), ("b.txt", b"two")]))
    assert read(write(tmp_path / f"a.tar{suffix}", data)) == (["one", "two"], [])
    assert read(write(tmp_path / "a.tgz", data)) == (["one", "two"], [])


@pytest.mark.parametrize("suffix", ARCHIVE)
def test_an_archive_of_other_things_is_refused(tmp_path, suffix):
    def refused(*members):
        return refusal(write(tmp_path / f"a{suffix}", ARCHIVE[suffix](members)))

    choose = "to choose, unpack it and name its files"
    assert refused(("a.txt", b"one"), ("b.pdf", b"1234")) == (
        f"PATH: holds more that isn't read (1 .pdf (4 bytes)) than is (1 .txt (3 bytes)); {choose}"
    )
    assert "only 1 .pdf (4 bytes)" in refused(("b.pdf", b"1234"))
    assert f"holds archives (1 .zip (2 bytes)); {choose}" in refused(("b.zip", b"PK"))
    inner = ARCHIVE[suffix]([("a.txt", b"one")])
    assert "PATH, b.txt: is a" in refused(("b.txt", inner)) and "unpack it" in refused(("b.txt", inner))


def test_a_zip_that_cannot_be_read_is_refused_by_its_reason(tmp_path):
    whole = as_zip([("a.txt", b"some words " * 1000)])
    path = tmp_path / "a.zip"
    assert "PATH: is damaged, or cut short (" in refusal(write(path, whole[:-30]))
    broken = whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    assert "PATH, a.txt: is damaged, or cut short (" in refusal(write(path, broken))
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    assert refusal(write(path, bytes(locked))) == (
        "PATH: is encrypted ('a.txt'); unpack it with its password, and name the files"
    )
    assert "'a.txt' is packed in a way that isn't read" in refusal(
        write(path, as_zip([("a.txt", b"words")], zipfile.ZIP_BZIP2))
    )
    assert "is a document of Office or an e-book" in refusal(write(path, as_zip([("[Content_Types].xml", b"<")])))
    assert "is a zip archive inside another file" in refusal(write(tmp_path / "a.zip.gz", gzip.compress(whole)))


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("clm.data.sources.readers.archives.BOMB_BYTES", 1 << 20)
    bomb = as_zip([(f"{number}.txt", b"a" * 1_000_000) for number in range(3)])
    assert refusal(write(tmp_path / "a.zip", bomb)) == "PATH: unpacks to more than 250 times its size; no text does"


@pytest.mark.parametrize("at", ["header", "text", "end"])
def test_a_damaged_tar_is_refused(tmp_path, at):
    # The stock reader takes a damaged header in the middle, and a missing end, for the end.
    whole = as_tar([("a.txt", b"a" * 600), ("b.txt", b"b" * 600)])
    damaged = {
        "header": whole[:1536] + b"x" + whole[1537:],
        "text": whole[:2100],
        "end": whole[: 2 * 1536],
    }
    assert "damaged, or cut short (" in refusal(write(tmp_path / "a.tar", damaged[at]))


def test_joined_tars_are_refused(tmp_path):
    joined = as_tar([("a.txt", b"one")]) + as_tar([("b.txt", b"two")])
    assert refusal(write(tmp_path / "a.tar", joined)) == (
        "PATH: goes on after its end (archives that were joined); unpack it"
    )


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"%PDF-1.7\n", "a PDF, which isn't read; take its text out first, for example with: pdftotext FILE"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"ORC\0\0\0", "ORC"),
        (b"\x04\x22\x4d\x18\x64", "compressed by lz4"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS, not the file"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv.gz"])
def test_other_formats_are_refused_by_name(tmp_path, head, what, name):
    message = refusal(write(tmp_path / name, head + bytes(range(1, 200))))
    assert message.startswith(f"PATH: is {what}") and "iconv" not in message


def test_a_text_that_begins_as_a_signature_is_text(tmp_path):
    for text in ("ORCs are not elves.", "PAR1 was a file format.", "BZh is short.", "PK and so on"):
        assert read(write(tmp_path / "a.txt", text)) == ([text], [])
