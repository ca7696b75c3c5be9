"""What a file holds: by its name, so that a folder can be searched, and by its first bytes, which count for more."""

from pathlib import PurePath

from clm.errors import UserError

FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tzst")
READ = f"{', '.join(FORMATS)}, each also as {', '.join(COMPRESSED)}, and {', '.join(ARCHIVES)}"
HEAD_BYTES = 4096  # what a file is recognised by

_READ_BY_SIGNATURE = (
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),  # one without members
    (257, b"ustar", "tar"),
)
_BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")  # after `BZh` and a digit: a first block, or the end of an empty text

_UNPACK = "unpack it, and name the files that it holds"
_NO_TEXT = "only text can be learnt from: leave it out"
_OFFICE = "save it as text, for example with: soffice --headless --convert-to txt:Text:UTF8 FILE"
_ARROW = "write it as parquet, for example in Python: datasets.Dataset.from_file('FILE').to_parquet('x.parquet')"
_REFUSED = (
    (0, b"%PDF-", "a PDF", "take its text out first, for example with: pdftotext FILE"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"PK\x07\x08", "a zip archive in several parts", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it: lz4 -d FILE"),
    (0, b"\x1f\x9d", "compressed by compress", "unpack it: uncompress FILE"),
    (0, b"\x5d\x00\x00", "compressed by lzma", "unpack it: unlzma FILE"),
    (0, b"LZIP\x01", "compressed by lzip", "unpack it: lzip -d FILE"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _OFFICE),
    (0, b"{\\rtf", "RTF", _OFFICE),
    (0, b"ARROW1\x00\x00", "an Arrow file", _ARROW),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", _ARROW),
    (0, b"ORC", "ORC", "write it as parquet, for example with pyarrow.orc"),
    (0, b"Obj\x01", "Avro", "write it as JSON lines, for example with: avro-tools tojson FILE"),
    (0, b"SQLite format 3\x00", "an SQLite database", "export the table as CSV: sqlite3 -header -csv FILE 'select …'"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5", "write its text as parquet or JSON lines"),
    (0, b"\x93NUMPY", "a numpy array", "write its text as parquet or JSON lines"),
    (0, b"\x80\x02", "a Python pickle", "write its text as parquet or JSON lines; a pickle can run code"),
    (0, b"\x80\x03", "a Python pickle", "write its text as parquet or JSON lines; a pickle can run code"),
    (0, b"\x80\x04", "a Python pickle", "write its text as parquet or JSON lines; a pickle can run code"),
    (0, b"\x80\x05", "a Python pickle", "write its text as parquet or JSON lines; a pickle can run code"),
    (0, b"\x89PNG", "a picture", _NO_TEXT),
    (0, b"\xff\xd8\xff", "a picture", _NO_TEXT),
    (0, b"GIF87a", "a picture", _NO_TEXT),
    (0, b"GIF89a", "a picture", _NO_TEXT),
    (0, b"\x7fELF", "a program", _NO_TEXT),
    (0, b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS, not the file", "run: git lfs pull"),
)  # fmt: skip


def kind_of(name: str) -> str | None:
    """What a file's name says it is: text, json, table, parquet or archive; None where it says nothing."""
    plain = PurePath(name.lower())
    while plain.suffix in COMPRESSED:
        plain = plain.with_suffix("")
    return "archive" if plain.suffix in ARCHIVES else FORMATS.get(plain.suffix)


def hidden(name: str) -> bool:
    """Whether a path inside a folder or an archive leads to what people don't see, and didn't write."""
    parts = [part for part in PurePath(name).parts if part != ".."]
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def about_the_text(name: str) -> bool:
    """Whether a file is by its name a README or a licence: about the text, and not text to learn from."""
    stem = PurePath(name).name.lower().split(".")[0]
    return stem in ("readme", "license", "licence", "copying", "notice")


def suffix_of(name: str) -> str:
    """The suffix that tells a kind of file, with that of a compression behind it; in words where there is none."""
    suffixes = [suffix for suffix in PurePath(name.lower()).suffixes if len(suffix) <= 10]
    last = suffixes[-2:] if suffixes and suffixes[-1] in COMPRESSED else suffixes[-1:]
    return "".join(last) or "no suffix"


def choose(sizes: dict[str, int], place: str, advice: str) -> tuple[set[str], str]:
    """Which of the files in a folder or an archive are read, and a line on those that aren't.

    READMEs and licences are about the text, and are left out unless there is nothing else; hidden files too.

    Args:
        sizes: bytes by name, from the folder or archive on.
        advice: how to read other files.

    Raises:
        UserError: there is nothing to read, or less than what would be left out.
    """
    seen = {name: size for name, size in sizes.items() if not hidden(name)}
    known = {name for name in seen if kind_of(name)}
    read = {name for name in known if not about_the_text(name)} or known
    others = {name: seen[name] for name in seen if name not in read and not about_the_text(name)}
    others = {name: size for name, size in others.items() if size}
    if not read:
        what = f"only {listed(others)}" if others else "no file"
        raise UserError(f"{place} has no file that ends in {READ}; {what}; {advice}")
    left, taken = sum(others.values()), sum(seen[name] for name in read)
    if left > taken:
        raise UserError(
            f"{place} holds more that isn't read ({listed(others)}) than is "
            f"({listed({name: seen[name] for name in read})}); {advice}"
        )
    about = sorted(name for name in known if name not in read)
    words = [f"{listed(others)} of a kind that isn't read"] if others else []
    words += [f"{', '.join(about[:3])}{' …' * (len(about) > 3)}, about the text"] if about else []
    return read, f"left out: {'; '.join(words)}" if words else ""


def recognise(head: bytes, place: str) -> str:
    """What the first bytes show: gzip, zstd, bzip2, xz, zip, tar or parquet; empty for text and all else.

    Raises:
        UserError: it is a format that isn't read; the message says how to convert it.
    """
    if head[:3] == b"BZh" and head[4:10] in _BZIP2:
        return "bzip2"
    for at, signature, name in _READ_BY_SIGNATURE:
        if head.startswith(signature, at):
            return name
    binary = b"\0" in head[:64]  # a text may begin with the letters of some signatures
    if head.startswith(b"PAR1") and binary:
        return "parquet"
    if head.startswith(b"PARE") and binary:
        raise UserError(f"{place}: is an encrypted parquet file; write it without encryption")
    for at, signature, what, advice in _REFUSED:
        if head.startswith(signature, at) and (binary or not signature.isalpha()):
            raise UserError(f"{place}: is {what}, which isn't read; {advice}")
    return ""


def is_markup(head: bytes) -> bool:
    """Whether a text begins as HTML or XML does."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml"))


def listed(sizes: dict[str, int]) -> str:
    """Files by name and bytes, in words: how many there are of each kind, the largest kind first."""
    kinds: dict[str, list[int]] = {}
    for name, size in sizes.items():
        kinds.setdefault(suffix_of(name), []).append(size)
    rows = sorted(kinds.items(), key=lambda row: (-sum(row[1]), row[0]))
    words = [f"{len(of_kind):,} {suffix} ({in_words(sum(of_kind))})" for suffix, of_kind in rows[:6]]
    return ", ".join(words) + (f" and {len(rows) - 6:,} more kinds" if len(rows) > 6 else "")


def in_words(size: int) -> str:
    """A number of bytes, as people say it."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:,} byte{'s' * (size != 1)}"
