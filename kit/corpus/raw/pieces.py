"""Texts cut into pieces of about equal size, the work of one task each.

A plain file and an xz file of several blocks are cut into ranges, and nothing is copied. Any other
compressed file is read once, and copied into zstd parts. Where it is cut depends on the bytes of the
text and on the size of a piece, on nothing else. No line is looked at here: that is done when a
piece is read (kit/corpus/raw/lines.py).
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import itertools
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

import zstandard

from kit.corpus.raw import seekable
from kit.corpus.raw.compression import Unpacked, is_packed
from kit.errors import InputError
from kit.output.progress import shown
from kit.store.files import CHUNK, atomic, file_hash, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.store.records import Range

_REACH = 1 << 10  # bytes of white space in a blank line; a longer one is no place to cut
_BOUNDARY = {
    "plaintext": re.compile(rb"\n[ \t\r\v\f]{0,%d}\n" % _REACH),
    "jsonl": re.compile(rb"\n"),
}
_COARSE = 4  # pieces that one block of xz may be as large as; with larger ones parts are made
OTHER = "is not what jobs.download found; run jobs.download again"
_STEP = 1 << 28  # bytes that are hashed at a time
_LEVEL = 3  # zstd's default


def cut(kind: str, path: Path, folder: Path, unit_bytes: int, first_part: int) -> list[Range]:
    """The pieces of one file: path, start, end, size, mtime_ns and xxh3, at least one.

    Parts go into `folder`, numbered from `first_part`. Raises InputError for damaged compression.
    """
    if not is_packed(path):
        cuts = _plain_cuts(path, unit_bytes, _BOUNDARY[kind])
        return ranges(path, list(itertools.pairwise(cuts)))
    if path.suffix.lower() == ".xz":
        starts, size = seekable.blocks(path)
        at_blocks = _block_cuts(starts, size, unit_bytes)
        if at_blocks is not None:
            return ranges(path, list(itertools.pairwise(at_blocks)))
    parts = _parts(kind, path, folder, unit_bytes, first_part)
    return [_piece(part, 0, part.stat().st_size, file_hash(part)) for part in parts]


def ranges(path: Path, extents: Sequence[tuple[int, int]]) -> list[Range]:
    """Pieces that are ranges [start, end) of a file, or of the text in it, each with its hash."""
    found = []
    with shown(f"{path.name}, hashing", extents[-1][1] if extents else 0) as at:
        for start, end in extents:
            found.append(_piece(path, start, end, digest(path, start, end)))
            at(end)
    return found


def digest(path: Path, start: int, end: int) -> str:
    """What a range's bytes are told by.

    In an xz file, where a document may reach into any later block, that is the hash of the whole.
    """
    if path.suffix.lower() != ".xz":
        return file_hash(path, start, end)
    status = path.stat()
    return f"{text_hash(f'{_whole(path, status.st_size, status.st_mtime_ns)} {start} {end}'):016x}"


@functools.lru_cache(maxsize=1)
def _whole(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001  the cache's key
    hashes = []
    with shown(f"{path.name}, hashing", size) as at:
        for start, end in itertools.pairwise([*range(0, size, _STEP), size]):
            hashes.append(file_hash(path, start, end))
            at(end)
    return " ".join(hashes)


def refuse_changed(piece: Range) -> None:
    """Raises InputError where the file of a piece is gone, or another than the one that was cut.

    A part is known by its hash, which is looked at when it is read: it may have been copied since.
    """
    path = Path(piece["path"])
    found = path.stat() if path.exists() else None
    if found is None or (
        path.suffix != ".zst"
        and (found.st_size, found.st_mtime_ns) != (piece["size"], piece["mtime_ns"])
    ):
        raise InputError(f"{path}: {OTHER}")


def _piece(path: Path, start: int, end: int, xxh3: str) -> Range:
    found = path.stat()
    return {
        "path": str(path),
        "start": start,
        "end": end,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "xxh3": xxh3,
    }


def _plain_cuts(path: Path, unit_bytes: int, boundary: re.Pattern[bytes]) -> list[int]:
    """Ends of documents: so a range and its hash hold all that a task reads but for a few bytes."""
    size = path.stat().st_size
    cuts = [0]
    with path.open("rb") as stream:
        while cuts[-1] + unit_bytes < size:
            found = _find(stream, cuts[-1] + unit_bytes, boundary)
            if found is None:
                break
            cuts.append(found)
    return [*cuts, size]


def _find(stream: IO[bytes], begin: int, boundary: re.Pattern[bytes]) -> int | None:
    """The first boundary at `begin` or after it."""
    stream.seek(begin)
    held = b""
    while chunk := stream.read(CHUNK if held else 1 << 14):  # mostly it is near
        held += chunk
        if match := boundary.search(held):
            return begin + match.start()
        gone = max(len(held) - _REACH - 2, 0)
        held = held[gone:]
        begin += gone
    return None


def _block_cuts(starts: list[int], size: int, unit_bytes: int) -> list[int] | None:
    """Starts of blocks, about `unit_bytes` apart; None for too few or too large blocks."""
    if len(starts) < 2:
        return None
    ends = [*starts[1:], size]
    largest = max(end - start for start, end in zip(starts, ends, strict=True))
    if largest > _COARSE * unit_bytes:
        return None
    cuts = [0]
    for end in ends:
        if end - cuts[-1] >= unit_bytes or end == size:
            cuts.append(end)
    return cuts


def _parts(kind: str, path: Path, folder: Path, unit_bytes: int, first: int) -> list[Path]:
    parts: list[Path] = []
    with Unpacked(path) as text, shown(f"{path.name}, cutting", path.stat().st_size) as at:
        source = Cutter(text, unit_bytes, kind)
        while source.more or not parts:
            parts.append(folder / f"part-{first + len(parts):05d}.txt.zst")
            with _part(parts[-1]) as out:
                for chunk in source.part():
                    out.write(chunk)
                    at(text.position)
    return parts


@contextlib.contextmanager
def _part(path: Path) -> Iterator[IO[bytes]]:
    try:
        with atomic(path) as raw:
            # One thread beside this one: it compresses while the next bytes are decompressed.
            compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=1)
            with compressor.stream_writer(raw, closefd=False) as out:
                yield cast("IO[bytes]", out)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); make room, and run jobs.download again"
        ) from None


class _Text(Protocol):
    def read(self, size: int = ...) -> bytes: ...


class Cutter:
    """A stream of bytes as parts that end behind the first boundary after `unit_bytes`."""

    def __init__(self, text: _Text, unit_bytes: int, kind: str) -> None:
        self._text = text
        self._unit = unit_bytes
        self._boundary = _BOUNDARY[kind]
        self._held = text.read().removeprefix(codecs.BOM_UTF8)  # Windows writes it at the head

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return bool(self._held)

    def part(self) -> Iterator[bytes]:
        """The next part, in chunks."""
        given = 0
        while self._held:
            match = self._boundary.search(self._held, max(self._unit - given, 0))
            if match:
                yield self._held[: match.end()]
                self._held = self._held[match.end() :] or self._text.read()
                return
            # A boundary may have begun in the last bytes; once no more come, it has not.
            chunk = self._text.read()
            ready = len(self._held) - (_REACH + 2 if chunk else 0)
            if ready > 0:
                yield self._held[:ready]
                given += ready
                self._held = self._held[ready:]
            self._held += chunk
