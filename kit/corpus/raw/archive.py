"""Tar archives of text files, read from front to end as one text.

Python's tarfile takes a damaged header, or the end of the file, for the end of the archive; here it is an
error, so that no member is lost in silence.
"""

from __future__ import annotations

import codecs
import re
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast

from kit.corpus.raw.compression import Unpacked, is_packed
from kit.errors import DamagedFile, InputError
from kit.output import log, quantities
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_NAME = re.compile(r"\.(jsonl|ndjson|json)(\.(xz|gz|bz2|zst))?$")
_ARCHIVE = re.compile(r"\.(tar(\.(xz|gz|bz2|zst))?|tgz)$")
_BETWEEN = {"plaintext": b"\n\n", "jsonl": b"\n"}  # what ends a document


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, compressed or not, by its name."""
    return bool(_ARCHIVE.search(path.name.lower()))


class Members:
    """The text of the files in an archive; each ends a document.

    Hidden files and what is no file are left out. Of JSON lines only files with such a name count, the
    others are named in the log.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._raw = Unpacked(path) if is_packed(path) else _Plain(path)
        self._chunks = self._read()

    def __enter__(self) -> Self:
        self._raw.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.__exit__()

    @property
    def position(self) -> int:
        """Bytes of the archive read so far."""
        return self._raw.position

    def read(self, _size: int = CHUNK) -> bytes:
        """Read some bytes of the text; empty only at its end.

        Raises DamagedFile for a damaged archive, InputError for a member that is no text.
        """
        return next(self._chunks, b"")

    def _read(self) -> Iterator[bytes]:
        taken, others = 0, []
        try:
            raw = cast("IO[bytes]", self._raw)  # a stream is only read
            with tarfile.open(fileobj=raw, mode="r|", tarinfo=_Member) as archive:
                for member in archive:
                    if not member.isfile() or _is_hidden(member.name):
                        continue
                    if not self._belongs(member.name):
                        others.append(member.name)
                        continue
                    taken += 1
                    yield from self._text(archive, member)
            self._check_end()
        except tarfile.TarError as error:
            raise DamagedFile(
                f"{self._path}: damaged or truncated near byte {self.position} ({error}); get a fresh copy"
            ) from None
        if others:
            left_out = quantities.count(len(others), "file")
            log.warning(f"{self._path}: {left_out} left out, without JSON lines: {others[0]}")
        if not taken:
            raise InputError(
                f"{self._path}: no file of kind {self._kind} in it; name another archive"
            )

    def _belongs(self, name: str) -> bool:
        """Whether a member is one of the texts. Raises InputError for one that has to be unpacked."""
        is_json = bool(JSON_NAME.search(name.lower()))
        if self._kind == "plaintext" and is_json:
            raise InputError(
                f"{self._path}: {name} looks like JSON lines; give it a source of kind jsonl"
            )
        if self._kind == "jsonl" and not is_json:
            return False
        if is_packed(Path(name)):
            raise InputError(
                f"{self._path}: {name} in it is compressed; unpack the archive, name its files"
            )
        return True

    def _text(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        stream = archive.extractfile(member)
        assert stream is not None  # it is a file
        head = stream.read(CHUNK).removeprefix(codecs.BOM_UTF8)
        while head:
            yield head
            head = stream.read(CHUNK)
        yield _BETWEEN[self._kind]

    def _check_end(self) -> None:
        """Only zeros may follow the end of the archive, and a compressed one has to be intact."""
        while rest := self._raw.read(CHUNK):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("more follows the end of the archive")


class _Member(tarfile.TarInfo):
    """A header of the archive, which ends with a block of zeros and with nothing else."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not buf.strip(b"\0"):
                raise
            raise tarfile.ReadError(f"header: {error}") from None


class _Plain:
    """An archive that is not compressed, with the interface of Unpacked."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
