"""Every reader on made-up input: no traceback, and no silent loss.

What goes in comes out: the bytes of a file's texts are those of its documents and of what was said to be left out. A
few hundred inputs by default; `pytest -m slow` tries thousands.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import shutil
import tarfile
import warnings
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from clm.data.sources import packed
from clm.data.sources.files import FileSource, Reading, find_files
from clm.errors import MachineError, UserError

FEW, MANY = 60, 3_000  # examples of each reader


FUZZED = {}
NAMES = [
    *("plain_text", "encodings", "noise", "json_lines", "json_of_any_shape", "tables", "parquet"),
    *("archives", "folders", "damage", "names"),
]


def fuzzed(*strategies):
    """Put a function of a folder and of made-up input among what is tried."""
    return lambda test: FUZZED.setdefault(test.__name__, (test, strategies))


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_reader(tmp_path, monkeypatch, name, examples):
    monkeypatch.setattr(packed, "CHUNK_BYTES", 64)  # so that small inputs are read in pieces
    test, strategies = FUZZED[name]
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    how = settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=quiet,
        database=None,
        derandomize=examples == FEW,  # the same ones every time; the many are others every time
    )
    how(given(*strategies)(test))(tmp_path)


def read(path, data, **how):
    """The whole documents and the notes, or the refusal, of a file with these bytes."""
    path.write_bytes(data)
    source = FileSource([path], Reading(**how), path.parent / "cache")
    texts, going_on = [], False
    try:
        for batch in source.documents():
            first, *others = batch.texts
            texts = [*texts[:-1], texts[-1] + first] if going_on else [*texts, first]
            texts, going_on = texts + others, batch.continues
    except (UserError, MachineError) as error:
        assert str(error) and "\n" not in str(error), error
        return None, str(error)
    return texts, " ".join(source.notes.lines)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
plain = st.text(st.sampled_from("ab,;|\t\"'é中\u2028 \n\r.<"), max_size=60)
texts = st.lists(words | plain, max_size=8)
separators = st.sampled_from([None, "line", "blank_line", "<|endoftext|>", "ab"])


def kept(rows):
    """Of rows, what is a document: what isn't white space only."""
    return [row for row in rows if row and not row.isspace()]


def is_noise(message):
    """A refusal of what may well be no text."""
    return "control or replacement" in message


PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
packs = st.sampled_from(sorted(PACK))


@fuzzed(words | plain, packs, st.sampled_from(["", "utf-8-sig", "utf-16", "utf-32"]), separators)
def plain_text(tmp_path, text, pack, encoding, separator):
    data = text.encode(encoding or "utf-8")
    got, said = read(tmp_path / f"a.txt{pack}", PACK[pack](data), separator=separator)
    if got is None:
        # A text can look like UTF-16 or like another format, with few letters; most can't.
        assert is_noise(said) or "holds no text" in said or "is empty" in said or "isn't read" in said, said
        assert "holds no text" not in said or not text.strip("\ufeff").strip() or separator, said
        return
    if "was read so" in said and not encoding:
        return
    text = text.removeprefix("\ufeff") if encoding in ("", "utf-8-sig") and text.startswith("\ufeff") else text
    if separator is None:
        assert got == [text]
        return
    # What is taken away is separators, and white space at them.
    literal = separator if separator in ("<|endoftext|>", "ab") else ""
    without = [re.sub(r"\s", "", part.replace(literal, "") if literal else part) for part in ("".join(got), text)]
    assert without[0] == without[1]


encoded = st.sampled_from(
    ["cp1252", "latin-1", "koi8-r", "cp1251", "shift_jis", "gb18030", "big5", "euc_kr", "utf-16-le"]
)


@fuzzed(
    encoded.flatmap(
        lambda name: st.tuples(
            st.just(name), st.text(st.characters(codec=name, exclude_characters="\u3164¥‾"), max_size=60)
        )
    ),
    packs,
)
def encodings(tmp_path, encoded, pack):
    encoding, text = encoded
    data = text.encode(encoding)
    assume(data.decode(encoding) == text and "\0" not in text and not text.startswith("\ufeff"))
    got, said = read(tmp_path / f"a.txt{pack}", PACK[pack](data), text_encoding=encoding)
    if got is None:
        assert is_noise(said) or not text.strip() or "isn't read" in said, said
    elif "was read so" not in said:
        assert got == [text]
    elif "is UTF-8, and was read so" in said:
        assert "".join(got).encode() == data.removeprefix(codecs.BOM_UTF8)


@fuzzed(st.binary(max_size=300), st.sampled_from([".txt", ".jsonl", ".csv", ".tsv", ".parquet", ".zip", ".tar", ".gz"]))
def noise(tmp_path, data, suffix):
    got, _ = read(tmp_path / f"a{suffix}", data)
    if got is not None and suffix == ".txt" and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        text = data.removeprefix(codecs.BOM_UTF8)
        assert "".join(got).encode() == text or b"\0" in data or data[:4] in (b"\x28\xb5\x2f\xfd",)


@fuzzed(
    st.lists(st.none() | words | plain, max_size=8),
    packs,
    st.sampled_from(["text", "doc.text"]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def json_lines(tmp_path, rows, pack, column, escaped, line_end):
    made = [{"id": 1, "text": row} if column == "text" else {"doc": {"text": row}} for row in rows]
    data = line_end.join(json.dumps(row, ensure_ascii=escaped) for row in made).encode()
    got, said = read(tmp_path / f"a.jsonl{pack}", PACK[pack](data), text_column=column)
    expected = kept([row for row in rows if row is not None])
    assert got == expected or (got is None and (is_noise(said) or not expected)), said
    left_out = sum(row is None for row in rows)
    if got is not None:
        assert ("is null, and the row was left out" in said) == bool(left_out)
        assert left_out < 2 or f"{left_out} times" in said


@fuzzed(
    st.lists(
        st.recursive(st.none() | st.integers() | words, lambda x: st.lists(x) | st.dictionaries(words, x)), max_size=4
    )
)
def json_of_any_shape(tmp_path, rows):
    data = "\n".join(json.dumps({"text": row} if i % 2 else row) for i, row in enumerate(rows)).encode()
    for column in ("text", "a.b", "text.a"):
        got, said = read(tmp_path / "a.jsonl", data, text_column=column)
        assert got is not None or said
    got, _ = read(tmp_path / "a.jsonl", data)
    if got is not None:
        assert got == kept([row for row in rows if isinstance(row, str)])


@fuzzed(
    st.lists(st.tuples(plain | words, plain | words), min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def tables(tmp_path, rows, delimiter, quoting, line_end, named):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    rows = [(number, text.rstrip("\r")) for number, text in rows]  # unquoted, it is half of a line end
    writer.writerows([("id", "text"), *rows])
    how = {"csv_delimiter": delimiter} if named else {}
    got, said = read(tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv"), buffer.getvalue().encode(), **how)
    expected = kept([text for _, text in rows])
    if got is None:
        assert is_noise(said) or not expected or "not CSV" in said or "fields instead of" in said, said
    elif delimiter == "\t" and quoting == csv.QUOTE_MINIMAL:
        # Quotes may be taken for letters there, or the other way round: nothing but quotes, and what they may stand
        # around, differs.
        assert [re.sub(r'["\s]', "", text) for text in got] == [re.sub(r'["\s]', "", text) for text in expected] or any(
            '"' in field for field in buffer.getvalue()
        )
    else:
        assert got == expected, said


@fuzzed(
    st.lists(st.none() | words | plain, min_size=1, max_size=8),
    packs,
    st.sampled_from(["string", "bytes", "struct", "dictionary"]),
)
def parquet(tmp_path, rows, pack, kind):
    column, name = pa.array(rows, pa.string()), "text"
    if kind == "bytes":
        column = column.cast(pa.binary())
    elif kind == "struct":
        column, name = pa.array([{"a": row} for row in rows], pa.struct([("a", pa.string())])), "text.a"
    elif kind == "dictionary":
        column = column.dictionary_encode()
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": column}), buffer, row_group_size=3)
    got, said = read(tmp_path / f"a.parquet{pack}", PACK[pack](buffer.getvalue()), text_column=name)
    expected = kept([row for row in rows if row is not None])
    assert got == expected or (got is None and (is_noise(said) or not expected)), said
    left_out = sum(row is None for row in rows)
    assert got is None or left_out < 2 or f"{left_out} times" in said


member_names = st.sampled_from(
    ["a.txt", "b/c.txt", "../d.md", "e.pdf", ".f.txt", "README.md", "g", "__MACOSX/h.txt", "i.txt.gz"]
)


@fuzzed(
    st.lists(st.tuples(member_names, words), max_size=6, unique_by=lambda member: member[0]),
    st.sampled_from(["zip", "tar", "tar.gz"]),
)
def archives(tmp_path, members, kind):
    buffer = io.BytesIO()
    packed_members = [
        (name, gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()) for name, text in members
    ]
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings(action="ignore"):
            for name, data in packed_members:
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in packed_members:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    data = gzip.compress(buffer.getvalue()) if kind == "tar.gz" else buffer.getvalue()
    got, said = read(tmp_path / f"a.{kind}", data)
    readable = {"a.txt", "b/c.txt", "../d.md", "i.txt.gz"}
    expected = kept([text.removeprefix("\ufeff") for name, text in members if name in readable])
    if got is None:
        assert (
            is_noise(said) or "holds" in said or "has no file" in said or "was read so" in said or "isn't read" in said
        ), said
    elif "was read so" not in said and got != [text for name, text in members if name == "README.md"]:
        assert got == expected
        sizes = {name: len(data) for name, data in packed_members}
        for name, suffix in (("e.pdf", ".pdf"), ("g", "no suffix")):  # each is counted, with its size
            assert not sizes.get(name) or f"1 {suffix} ({sizes[name]} byte" in said
        assert "README.md" not in sizes or "README.md" in said


file_names = st.sampled_from(
    [
        "a.txt",
        "b c/ü.txt",
        "d.md",
        "e.pdf",
        ".f.txt",
        "README.md",
        "LICENSE",
        "g",
        ".git/h.txt",
        "i.txt.gz",
        "[j]/k.TXT",
    ]
)


@fuzzed(st.lists(st.tuples(file_names, words), max_size=8, unique_by=lambda file: file[0]))
def folders(tmp_path, files):
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sizes, read_texts, about = {}, {}, {}
    for name, text in files:
        (folder / name).parent.mkdir(exist_ok=True)
        data = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
        (folder / name).write_bytes(data)
        sizes[name] = len(data)
        if name == "README.md":
            about[name] = text
        elif name.split(".")[-1].lower() in ("txt", "md", "gz") and name[0] != ".":
            read_texts[name] = text
    left = {name: sizes[name] for name in ("e.pdf", "g") if sizes.get(name)}
    taken = read_texts or about
    try:
        found = find_files(str(folder), "train_file")
    except UserError as error:
        assert sum(left.values()) > sum(sizes[name] for name in taken) or not any(sizes[name] for name in taken)
        for name, size in left.items():
            assert not taken or f"{name.removeprefix('e') if name == 'e.pdf' else 'no suffix'} ({size} byte" in str(
                error
            )
        return
    assert {str(path.relative_to(folder)) for path in found.paths} == set(taken)
    said = " ".join(found.notes)
    for name, size in left.items():
        assert f"1 {'.pdf' if name == 'e.pdf' else 'no suffix'} ({size} byte" in said
    assert taken is about or "README.md" not in sizes or "README.md, about the text" in said
    for path in found.paths:  # each alone, for one may be refused
        text = taken[str(path.relative_to(folder))].removeprefix("\ufeff")
        got, why = read(path, path.read_bytes())
        assert (
            got == kept([text])
            or (got is None and (is_noise(why) or not text.strip() or "isn't read" in why))
            or ("was read so" in why)
        ), why


@fuzzed(
    st.binary(min_size=1, max_size=40),
    st.integers(0, 2_000),
    st.sampled_from([".txt.gz", ".txt.zst", ".txt.bz2", ".txt.xz", ".zip", ".tar", ".parquet"]),
    st.booleans(),
)
def damage(tmp_path, noise, at, suffix, cut):
    text = "some words, and more of them. " * 9
    if suffix == ".zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", text)
        whole = buffer.getvalue()
    elif suffix == ".tar":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in ("a.txt", "b.txt"):
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        whole = buffer.getvalue()[:2560]
    elif suffix == ".parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.table({"text": [text]}), buffer)
        whole = buffer.getvalue()
    else:
        whole = PACK[suffix.removeprefix(".txt")](text.encode())
    at %= len(whole)
    damaged = whole[:at] if cut else whole[:at] + noise + whole[at + len(noise) :]
    read(
        tmp_path / f"a{suffix}", damaged
    )  # no traceback; a text of another name, or bytes without a checksum, may pass
    if cut and suffix != ".tar" and at > 20:
        got, _ = read(tmp_path / f"a{suffix}", damaged)
        assert got is None


@fuzzed(st.text(st.sampled_from("ab[]*?. "), min_size=1, max_size=12), st.booleans())
def names(tmp_path, name, inside):
    folder = tmp_path / "names"
    folder.mkdir(exist_ok=True)
    if name.strip(" ") and not name.startswith("."):  # which a glob passes over
        made = folder / f"{name}x" / "t.txt" if inside else folder / f"{name}x.txt"
        made.parent.mkdir(exist_ok=True)
        made.write_text("x")
        assert made in find_files(str(made), "train_file").paths
        assert made in find_files(str(made.parent / "*.txt"), "train_file").paths
