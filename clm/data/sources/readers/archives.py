"""Archives, member by member, in their own order; nothing is unpacked to disk, so no member's name leads anywhere."""

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from clm.data.sources import packed
from clm.data.sources.documents import Notes
from clm.data.sources.readers import formats
from clm.data.sources.readers.compression import BOMB_BYTES, MOST_UNPACKED, Content, unpacked
from clm.errors import UserError

_ENCRYPTED = 1  # a bit of a zip member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, KeyError, NotImplementedError, RuntimeError, OverflowError),
)
_OFFICE = ("[content_types].xml", "mimetype", "meta-inf/container.xml")


def members(content: Content, notes: Notes) -> Iterator[Content]:
    """The texts of an archive, each by its own kind; anything else is itself.

    Read is what would be read in a folder. What isn't is noted, with its size.

    Raises UserError for an archive that is encrypted, damaged, or holds no text or more of other things.
    """
    if content.format == "zip":
        return _of_zip(content, notes)
    if content.format == "tar":
        return _of_tar(content, notes)
    return iter([content])


_UNPACK = "to choose, unpack it and name its files"


def _of_zip(content: Content, notes: Notes) -> Iterator[Content]:
    place, file = content.place, content.file
    if file is None:
        raise UserError(f"{place}: is a zip archive inside another file; unpack it first")
    try:
        archive = zipfile.ZipFile(file)
        found = [member for member in archive.infolist() if not member.is_dir()]
    except _DAMAGE as error:
        raise _damaged(place, error) from None
    _check_zip(found, place, file.seek(0, os.SEEK_END))
    chosen = _chosen([(member.filename, member.file_size) for member in found], place, notes)
    for member in found:
        if member.filename in chosen:
            yield _member(lambda member=member: archive.open(member), place, member.filename, notes)


def _check_zip(found: list[zipfile.ZipInfo], place: str, on_disk: int) -> None:
    if office := [member.filename for member in found if member.filename.lower() in _OFFICE]:
        raise UserError(
            f"{place}: is a document of Office or an e-book (it holds {office[0]}), which isn't read; save it as text, "
            "for example with: soffice --headless --convert-to txt:Text:UTF8 FILE"
        )
    if encrypted := [member.filename for member in found if member.flag_bits & _ENCRYPTED]:
        raise UserError(f"{place}: is encrypted ({encrypted[0]!r}); unpack it with its password, and name the files")
    if others := [member.filename for member in found if member.compress_type not in _METHODS]:
        raise UserError(f"{place}: {others[0]!r} is packed in a way that isn't read; unpack it, and name the files")
    size = sum(member.file_size for member in found)
    if size > BOMB_BYTES and size > MOST_UNPACKED * on_disk:
        raise UserError(f"{place}: unpacks to more than {MOST_UNPACKED} times its size; no text does")


class _TarMember(tarfile.TarInfo):
    """As the stock one, but for a damaged header in the middle, or no end: the stock reader takes that for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_TarMember":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.EmptyHeaderError:
            raise tarfile.ReadError("it has no end") from None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _of_tar(content: Content, notes: Notes) -> Iterator[Content]:
    place = content.place
    sizes: list[tuple[str, int]] = []
    try:
        archive = tarfile.open(fileobj=_Stream(content.blocks), mode="r|", tarinfo=_TarMember)  # noqa: SIM115
        for member in archive:
            if not member.isfile():
                continue
            if member.issparse():
                raise UserError(f"{place}: {member.name!r} is stored sparse; unpack it, and name the files")
            sizes.append((member.name, member.size))
            kind = None if formats.hidden(member.name) else formats.kind_of(member.name)
            if kind not in (None, "archive") and not formats.about_the_text(member.name):
                yield _member(lambda member=member: archive.extractfile(member), place, member.name, notes)
            archive.members = []  # it would keep them all
        while rest := archive.fileobj.read(1 << 20):
            if rest.strip(b"\0"):
                raise UserError(f"{place}: goes on after its end (archives that were joined); unpack it")
    except _DAMAGE as error:
        raise _damaged(place, error) from None
    chosen = _chosen(sizes, place, notes)
    if any(formats.about_the_text(name) for name in chosen):
        raise UserError(f"{place}: holds READMEs and licences alone; {_UNPACK}")


class _Stream:
    """Blocks as a file that can be read forward."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer."""
        if not self._rest:
            self._rest = next(self._blocks, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _chosen(found: list[tuple[str, int]], place: str, notes: Notes) -> set[str]:
    """Members that are read; archives in an archive aren't."""
    others: dict[str, int] = {}
    inner: dict[str, int] = {}
    for name, size in found:
        if not formats.hidden(name):
            into = inner if formats.kind_of(name) == "archive" else others
            into[name] = into.get(name, 0) + size
    if sum(inner.values()) > sum(others.values()):
        raise UserError(f"{place}: holds archives ({formats.listed(inner)}); {_UNPACK}")
    chosen, left_out = formats.choose(others, f"{place}:", _UNPACK)
    if left_out:
        notes.add(left_out, place)
    if inner:
        notes.add(f"left out: {formats.listed(inner)}, archives in an archive", place)
    return chosen


def _member(opened: Callable[[], IO[bytes]], place: str, name: str, notes: Notes) -> Content:
    return unpacked(_blocks(opened, f"{place}, {name}"), f"{place}, {name}", name, notes)


def _blocks(opened: Callable[[], IO[bytes]], place: str) -> Iterator[bytes]:
    try:
        with opened() as file:
            while block := file.read(packed.CHUNK_BYTES // 2):
                yield block
    except _DAMAGE as error:
        raise _damaged(place, error) from None


def _damaged(place: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{place}: is damaged, or cut short ({reason}); get the file again")
