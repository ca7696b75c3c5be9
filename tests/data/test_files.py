import csv
import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from clm.data.sources import packed
from clm.data.sources.files import FileSource, Reading, find_files
from clm.errors import UserError

TEXTS = ["one\n", 'twö, "2"\r\nlines', "NA", "", "1.0", "\u2028 nul \0", " "]
KEPT = [text for text in TEXTS if text.strip()]


def as_csv(texts):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerows([["id", "text"], *([number, text] for number, text in enumerate(texts))])
    return buffer.getvalue().encode()


def as_parquet(texts, column="text"):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(texts))), column: texts}), buffer, row_group_size=3)
    return buffer.getvalue()


def as_jsonl(texts):
    return "\n".join(
        json.dumps({"text": text, "id": 1}, ensure_ascii=bool(i % 2)) for i, text in enumerate(texts)
    ).encode()


COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def read(path, separator=None, column="text"):
    paths = path if isinstance(path, list) else [path]
    return [
        text
        for batch in FileSource(paths, Reading(column, separator), paths[0].parent / "cache").documents()
        for text in batch.texts
    ]


def write(path, data):
    path.write_bytes(data)
    return path


def error(path, **how):
    with pytest.raises(UserError) as caught:
        read(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path}", "PATH")


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", [".txt", ".md", ".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_its_texts_unchanged(tmp_path, suffix, compression):
    data = {".csv": as_csv, ".parquet": as_parquet}.get(suffix, as_jsonl)(TEXTS)
    path = write(tmp_path / f"x{suffix}{compression}", COMPRESS[compression](data))
    assert read(path) == ([data.decode()] if suffix in (".txt", ".md") else KEPT)


def test_compressed_files_of_several_streams(tmp_path):
    assert read(write(tmp_path / "a.txt.gz", gzip.compress(b"a ") + gzip.compress(b"b") + b"\0\0")) == ["a b"]
    assert read(write(tmp_path / "a.txt.zst", zstandard.compress(b"a ") + zstandard.compress(b"b"))) == ["a b"]


def test_a_byte_order_mark_goes_and_nul_and_crlf_stay(tmp_path):
    assert read(write(tmp_path / "a.txt", b"\xef\xbb\xbfa\0\r\n\xef\xbb\xbfb")) == ["a\0\r\n\ufeffb"]
    assert read(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n')) == [
        "a",
        "b",
    ]
    assert read(write(tmp_path / "a.csv", b"\xef\xbb\xbftext\r\na\r\n\r\nb\r\n")) == ["a", "b"]


@pytest.mark.parametrize("chunk", [2, 4, 10, 1 << 20])
@pytest.mark.parametrize("compression", COMPRESS)
def test_bytes_that_are_not_utf8_are_named_exactly(tmp_path, monkeypatch, chunk, compression):
    monkeypatch.setattr(packed, "CHUNK_BYTES", chunk)
    good = "aé中😀 ".encode() * 5
    path = tmp_path / f"x.txt{compression}"
    for bad, at in [
        (b"\xff", 0),
        (b"\xe4\xb8a", 0),
        (b"\xc3", 0),
        (b"ab\xf0\x9f\x98", 2),
        (b"\xed\xa0\x80", 0),
    ]:
        path.write_bytes(COMPRESS[compression](good + bad))
        assert error(path).startswith(f"PATH: is not UTF-8 at byte {len(good) + at} (0x{bad[at]:02x}); ")
    path.write_bytes(COMPRESS[compression](good))
    assert read(path, separator="\0") == [good.decode()] or chunk < 100


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_a_file_cut_short_is_refused(tmp_path, compression):
    whole = COMPRESS[compression](os.urandom(300_000).hex().encode())
    path = write(tmp_path / f"x.txt{compression}", whole[:-100])
    assert "PATH: is cut short and ends after " in error(path)
    assert "PATH: is damaged after " in error(write(path, whole + b"and more"))
    if compression == ".gz":  # which ends with a checksum
        assert "PATH: is damaged after " in error(write(path, whole[:-8] + b"\1" * 8))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"text": "a"',
            'is not JSON (Expecting \',\' delimiter, column 13); one object a line is needed, like {"text": "…"}',
        ),
        (
            '["a"]',
            "is a list of texts, not an object; one object a line is needed, and a list of them is made so by: "
            "jq -c '.[]' FILE",
        ),
        (
            '{"body": "a", "id": 1}',
            "has no 'text'; set text_column to one of: 'body' (\"a\"), 'id' (a number, 1)",
        ),
        ('{"text": 5}', "'text' is a number, 5, not a text; there is no other"),
        (
            '{"text": true, "body": "a"}',
            "'text' is true, not a text; set text_column to one of: 'body' (\"a\")",
        ),
        (r'{"text": "a \ud800 b"}', r"'text' holds a lone surrogate, \ud800, which is no character"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path, line, message):
    good = r'{"text": "\ud83d\ude00"}'
    path = write(tmp_path / "x.jsonl", f"{good}\n\n{line}\n{good}\n".encode())
    assert error(path) == f"PATH, line 3: {message}"


def test_bad_tables_are_named(tmp_path):
    path = write(tmp_path / "x.csv", as_csv(["a"]))
    assert error(path, column="body") == (
        "PATH: has no column 'body'; set text_column to one of: 'id' (\"0\"), 'text' (\"a\"); its first line names them"
    )
    assert error(write(path, b'id,text\n1,a\n2,"b\nc",d\n')) == "PATH, line 4: has 3 fields instead of 2"
    assert "PATH, line 2: is not CSV" in error(write(path, b'id,text\n1,"a'))
    path = write(tmp_path / "x.parquet", as_parquet(["a"], "body"))
    assert error(path) == "PATH: has no column 'text'; set text_column to one of: 'id' (int64), 'body' (string)"
    not_utf8 = pa.array([b"a", b"\xff"]).view(pa.string())
    assert error(write(path, as_parquet(not_utf8))) == "PATH, row 1 or soon after: 'text' is not UTF-8"
    assert error(write(path, as_parquet([7]))) == (
        "PATH: 'text' is int64, not text; set text_column to one of: 'id' (int64), 'text' (int64)"
    )
    assert "PATH: is damaged, or not parquet (" in error(write(path, as_parquet(["a"])[:-20]))


def test_files_without_text_are_refused(tmp_path):
    assert error(write(tmp_path / "x.txt", b" \n\xe3\x80\x80")) == "PATH: holds no text"
    assert error(write(tmp_path / "x.csv", b"text\n")) == "PATH: holds no text"
    assert error(write(tmp_path / "x.txt.gz", gzip.compress(b""))) == "PATH: holds no text"
    (tmp_path / "x.txt").unlink()
    assert error(tmp_path / "x.csv") == "PATH: holds no text"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 100)
    path = write(tmp_path / "x.txt", b"some words " * 100)
    batches = FileSource([path], Reading(), tmp_path).documents()
    next(batches)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"x\.txt: changed while it was read"):
        list(batches)


def test_a_file_ends_its_document_and_small_files_share_a_batch(tmp_path):
    paths = [write(tmp_path / f"{name}.txt", f"{name}1\n\n{name}2".encode()) for name in "abc"]
    source = FileSource(paths, Reading(separator="blank_line"), tmp_path)
    [batch] = source.documents()
    assert batch.texts == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert source.bytes_read == source.size_bytes == 18
    assert list(source.documents()) == [batch]
    before = source.fingerprint()
    assert json.loads(json.dumps(before)) == before
    os.utime(paths[1], ns=(0, 0))
    assert source.fingerprint() != before


def test_names_are_safe_for_folders(tmp_path):
    path = write(tmp_path / "my: bøøk.txt.gz", gzip.compress(b"a"))
    assert FileSource([path], Reading(), tmp_path).name == "my-bøøk"


def test_paths_globs_and_folders_are_found_sorted_and_once(tmp_path):
    for name in [
        "b.txt",
        "a.jsonl.gz",
        "sub/c.md",
        "sub/d.parquet.zst",
        "sub/e.bin",
        ".hidden.txt",
        "sub/.git/x.txt",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    def names(patterns):
        return [str(path.relative_to(tmp_path)) for path in find_files(patterns, "train_file").paths]

    assert names(str(tmp_path)) == ["a.jsonl.gz", "b.txt", "sub/c.md", "sub/d.parquet.zst"]
    assert names(f"{tmp_path}/**/*.*") == [
        "a.jsonl.gz",
        "b.txt",
        "sub/c.md",
        "sub/d.parquet.zst",
        "sub/e.bin",
    ]
    assert names([f"{tmp_path}/b.txt", f"{tmp_path}/*.txt", f"{tmp_path}/sub/../b.txt"]) == ["b.txt"]
    (tmp_path / "[1].txt").write_text("x")
    assert names(f"{tmp_path}/[1].txt") == ["[1].txt"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.txt", "there is no file"),
        ("*.csv", "no file matches"),
        ("folder", "has no file that ends in .txt,"),
        ("empty.txt", "is empty"),
        ("empt*", "is empty"),
    ],
)
def test_nothing_found_is_refused(tmp_path, pattern, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match=f"^train_file: .*{message}"):
        find_files(str(tmp_path / pattern), "train_file")


def test_the_fingerprint_names_all_that_shapes_the_documents(tmp_path):
    path = write(tmp_path / "a.csv", b"text\na")
    ways = [{}, {"text_column": "b"}, {"separator": "line"}, {"text_encoding": "cp1252"}, {"csv_delimiter": ";"}]
    prints = {json.dumps(FileSource([path], Reading(**how), tmp_path).fingerprint()) for how in ways}
    assert len(prints) == len(ways)
