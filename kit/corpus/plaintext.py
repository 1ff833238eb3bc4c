"""Plain text as CC-100 has it: lines, and an empty line between documents."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

from kit.errors import InputError
from kit.files import ZstdReader, zstd_reader, zstd_writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MEMORY = 1 << 26  # bytes of a line, characters of a document: a limit on a task's memory
_PACKED = {".xz", ".gz", ".bz2", ".zst"}


def split(source: Path, folder: Path, unit_bytes: int) -> list[Path]:
    """Copy a text (xz, gz, bz2, zst or plain, by its name) into zstd parts of whole documents.

    Each part holds about `unit_bytes` bytes of text. Returns the parts, at least one. Raises InputError for
    damaged compression, and for text that is not UTF-8.
    """
    parts: list[Path] = []
    documents = _documents(source)
    document = next(documents, None)
    while document is not None or not parts:
        parts.append(folder / f"part-{len(parts):05d}.txt.zst")
        size = 0
        with zstd_writer(parts[-1]) as out:
            while document is not None and size < unit_bytes:
                text = "\n".join(document)
                out.write(text + "\n\n")
                size += len(text.encode())
                document = next(documents, None)
    return parts


def documents(part: Path) -> Iterator[list[str]]:
    """The documents of a part, each as its lines."""
    with zstd_reader(part) as stream:
        lines: list[str] = []
        for line in stream:
            if line != "\n":
                lines.append(line.rstrip("\n"))
            elif lines:
                yield lines
                lines = []


def _documents(source: Path) -> Iterator[list[str]]:
    lines: list[str] = []
    size = 0
    with _open(source) as stream:
        for number, raw in enumerate(_raw_lines(source, stream), 1):
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{source}, line {number}: byte {error.start + 1} of the line is not UTF-8; "
                    "convert the file with iconv"
                ) from None
            size += len(line)
            if size > _MEMORY:
                raise InputError(
                    f"{source}, line {number}: a document of over {_MEMORY} characters; put empty lines "
                    "between documents"
                )
            if line.strip():
                lines.append(line)
            elif lines:
                yield lines
                lines, size = [], 0
    if lines:
        yield lines


def _raw_lines(source: Path, stream: IO[bytes]) -> Iterator[bytes]:
    if source.suffix in _PACKED and not source.stat().st_size:
        raise InputError(f"{source}: damaged or cut (it is empty); get it again")
    number = 0
    try:
        while line := stream.readline(_MEMORY):
            number += 1
            if len(line) == _MEMORY:
                raise InputError(
                    f"{source}, line {number}: has over {_MEMORY} bytes, too many characters for a "
                    "line; is this a text?"
                )
            yield line
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{source}: damaged or cut ({error}); get it again") from None


@contextlib.contextmanager
def _open(source: Path) -> Iterator[IO[bytes]]:
    with source.open("rb") as raw:
        if source.suffix == ".zst":
            yield io.BufferedReader(ZstdReader(raw))
        elif source.suffix in _PACKED:
            opener = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}[source.suffix]
            with cast("Any", opener)(raw, "rb") as stream:
                yield stream
        else:
            yield raw
