"""Bytes to text: UTF-8, UTF-16 by its first bytes, else what the user names; and what other bytes may be."""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from itertools import chain

from clm.data.sources.documents import Notes
from clm.data.sources.readers import formats
from clm.data.sources.readers.compression import Content
from clm.errors import UserError

_MARK_INSIDE = (
    "holds a byte order mark (U+FEFF) inside its text, where it is a letter as any other: "
    "sed 's/\\xef\\xbb\\xbf//g' FILE takes it out"
)


def read_text(content: Content, encoding: str | None, notes: Notes) -> Iterator[str]:
    """As read_utf8, decoded."""
    return (chunk.decode() for chunk in read_utf8(content, encoding, notes))


def read_utf8(content: Content, encoding: str | None, notes: Notes) -> Iterator[bytes]:
    """The text in UTF-8, in chunks of some megabytes, of whole characters, without a byte order mark.

    UTF-16 and UTF-32 are known by their first bytes. What isn't UTF-8 is read in `encoding`, where that is given.

    Raises UserError for other bytes, with their offset in the (decompressed) file and what they may be.
    """
    found = _wide_encoding(content.head)
    if found is None and encoding is not None:
        blocks, ends = [], False
        while not ends and sum(map(len, blocks)) <= formats.HEAD_BYTES:
            block = next(content.blocks, b"")
            blocks, ends = [*blocks, block], not block
        first = b"".join(blocks)
        content = content._replace(blocks=chain([first] if first else [], content.blocks))
        utf8 = _is_utf8(first, encoding, ends)
        found = None if utf8 else encoding
        if utf8 and not first.isascii():
            notes.add(f"is UTF-8, and was read so; text_encoding {encoding} is for what isn't", content.place)
    elif found is not None:
        notes.add(f"is {found.upper()}, and was read so", content.place)
    _note_lines(content, found, notes)
    chunks = _utf8_chunks(content) if found is None else _decoded(content, found)
    return _with_marks_noted(chunks, content.place, notes)


def _with_marks_noted(chunks: Iterator[bytes], place: str, notes: Notes) -> Iterator[bytes]:
    """The same chunks; byte order marks in them, which joined files have where one begins, are noted."""
    for chunk in chunks:
        if not chunk.isascii() and (count := chunk.count(codecs.BOM_UTF8)):
            notes.add(_MARK_INSIDE, place, count)
        yield chunk


def _utf8_chunks(content: Content) -> Iterator[bytes]:
    offset, rest, started = 0, b"", False
    while True:
        block = next(content.blocks, None)
        data = rest + block if rest and block is not None else rest if block is None else block
        try:
            used = codecs.utf_8_decode(data, "strict", block is None)[1]
        except UnicodeDecodeError as error:
            raise UserError(
                f"{content.place}: is not UTF-8 at byte {offset + error.start:,} (0x{data[error.start]:02x}); "
                + _what_else(data, error.start)
            ) from None
        offset += used
        text, rest = data[:used], data[used:]
        if text and not started:
            started = True
            text = text.removeprefix(codecs.BOM_UTF8)
        if text:
            yield text
        if block is None:
            return


def _decoded(content: Content, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    given, started = 0, False
    try:
        for block in chain(content.blocks, [b""]):
            given += len(block)
            text = decoder.decode(block, final=not block)
            if text and not started:
                started = True
                text = text.removeprefix("\ufeff")
            if text:
                yield text.encode()
    except UnicodeDecodeError as error:
        at = max(0, given - len(error.object) + error.start)
        reason = f"at byte {at:,} ({error.reason})"
    except UnicodeError:
        reason = f"before byte {given:,}"
    else:
        return
    raise UserError(f"{content.place}: is not {encoding} {reason}; is that its encoding?")


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark, or by where the zero bytes are of letters below U+0100."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    quarters = [head[at::4].count(0) for at in range(4)]
    units = len(head) // 4
    if units < 4:
        return None
    most, few = 0.3 * units, 0.05 * units
    zeros = tuple(count > most for count in quarters)
    whole = tuple(count > 0.9 * units for count in quarters)
    if whole[2:] == (True, True) and quarters[0] <= few:
        return "utf-32-le"
    if whole[:2] == (True, True) and quarters[3] <= few:
        return "utf-32-be"
    if zeros == (False, True, False, True) and max(quarters[0], quarters[2]) <= few:
        return "utf-16-le"
    if zeros == (True, False, True, False) and max(quarters[1], quarters[3]) <= few:
        return "utf-16-be"
    return None


def _is_utf8(first: bytes, encoding: str, ends: bool) -> bool:
    """Whether the beginning of a file is UTF-8 for certain, and not text in `encoding` that could be read as it."""
    try:
        codecs.utf_8_decode(first, "strict", ends)
    except UnicodeDecodeError:
        return False
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")) and b"\0" not in first
    return wide or not first.isascii()


def _note_lines(content: Content, encoding: str | None, notes: Notes) -> None:
    if formats.is_markup(content.head):
        notes.add("is markup, and was read as it stands, tags and all", content.place)
    head = content.head if encoding is None else content.head.replace(b"\0", b"")
    returns = head.count(b"\r") - head.count(b"\r\n")
    if returns > head.count(b"\n"):
        notes.add("has bare carriage returns, which end no line here: tr '\\r' '\\n' < FILE mends that", content.place)


def _what_else(data: bytes, at: int) -> str:
    """What bytes that aren't UTF-8 may be, and what to do about it."""
    if wide := _unmarked_utf16(data):
        reads = " ".join(data[:120].decode(wide, "ignore").split())
        return f'perhaps it is {wide}, which reads "{reads}" (a guess): if that is right, set text_encoding to {wide}'
    share = control_share(data[: 1 << 16])
    if share > 0.1:
        return f"{share:.0%} of its characters are control characters, so it isn't text"
    if not data[:at].isascii():
        return (
            "what comes before it is UTF-8, so it is damaged there, or two encodings are mixed; mend that place, or "
            "drop such bytes: iconv -f UTF-8 -t UTF-8 -c FILE"
        )
    guesses = _guesses(data, at)
    if not guesses:
        return "no encoding of text fits it either, so it isn't text; leave it out, or name its text_encoding"
    begin, end = max(data.rfind(b"\n", 0, at) + 1, at - 30), data.find(b"\n", at)
    around = data[begin : min(at + 60, end if end >= 0 else len(data))]
    reads = [f'{name}, which reads "{" ".join(around.decode(name, "replace").split())}"' for name in guesses]
    advice = f"if that is right, set text_encoding to {' or '.join(guesses)}"
    return f"perhaps it is {', or '.join(reads)} (a guess): {advice}"


def _unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 without a mark, of letters that have no zero bytes: it decodes, and hardly anything else is in it."""
    sample = data[: min(len(data), 1 << 12) // 2 * 2]
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(sample)
        except UnicodeDecodeError:
            continue
        usual = sum(letter.isalpha() or letter.isspace() or letter in "，。、．,." for letter in text)
        scripts = {unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()}
        if len(text) >= 32 and usual > 0.9 * len(text) and len(scripts) <= 4:
            return encoding
    return None


def _guesses(data: bytes, at: int) -> list[str]:
    """The likeliest encoding of bytes that aren't UTF-8; and the commonest of Western text, where both give letters."""
    from charset_normalizer import from_bytes  # seldom needed

    start = data.rfind(b"\n", 0, at) + 1
    lines = [line for line in data[start : start + (1 << 20)].split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)[: 1 << 16]  # plain letters tell nothing, and outweigh the others
    best = from_bytes(sample).best()
    if best is None:
        return []
    if "cp1252" in best.could_be_from_charset:
        return ["cp1252"]
    return (
        [best.encoding, "cp1252"]
        if _is_latin(sample, best.encoding) and _is_latin(sample, "cp1252")
        else [best.encoding]
    )


def _is_latin(sample: bytes, encoding: str) -> bool:
    try:
        letters = [letter for letter in sample.decode(encoding) if letter.isalpha() and not letter.isascii()]
    except UnicodeDecodeError:
        return False
    return bool(letters) and all("LATIN" in unicodedata.name(letter, "") for letter in letters)


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"
_WIDE_CONTROLS = re.compile(rb"\xc2[\x80-\x84\x86-\x9f]|\xef\xbf\xbd")  # C1 but for the line end, and U+FFFD


def control_share(text: bytes) -> float:
    """The share of control and replacement characters among the characters of a text in UTF-8, or nearly."""
    narrow = len(text) - len(text.translate(None, _CONTROLS))
    wide = 0 if text.isascii() else len(_WIDE_CONTROLS.findall(text))
    characters = len(text) if text.isascii() else len(text.decode(errors="ignore"))
    return (narrow + wide) / max(1, characters)
