"""Cut texts into pieces of about equal size, one unit of work each.

A plain file and an xz file of several blocks are cut into ranges, without copying. Any other compressed
file, and a tar archive, is read once and copied into zstd parts. The cuts depend only on the bytes of the
text and the size of a piece. Lines are not checked here, but as a piece is read (kit/corpus/raw/lines.py).
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

from kit.corpus.raw.compression import Unpacked, is_packed
from kit.errors import InputError
from kit.output.progress import progress_bar
from kit.store.files import CHUNK, atomic, file_hash, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.store.records import Range

_LONGEST_BLANK_LINE = 1 << 10  # bytes of white space in a blank line; a longer one is never a cut
# Only line ends of every mode (kit/corpus/line_ends.py). A CR counts once the byte after it is known.
_LINE_END = rb"(?:\r\n|\n|\r(?=[^\n]))"
_BOUNDARY = {
    "plaintext": re.compile(
        rb"(?:\n|\r(?=[^\n]))[ \t\v\f]{0,%d}%s" % (_LONGEST_BLANK_LINE, _LINE_END)
    ),
    "jsonl": re.compile(_LINE_END),
}
_LONGEST_BOUNDARY = _LONGEST_BLANK_LINE + 4  # with the byte after it
_LARGEST_BLOCK = (
    4  # the largest block of xz, in pieces; a file with larger ones is copied into parts
)
CHANGED = "missing, or changed since ekiden download cut it; run ekiden download again"
_STEP = 1 << 28  # bytes to hash at a time
_LEVEL = 3  # zstd's default


def cut(kind: str, path: Path, folder: Path, unit_bytes: int, first_part: int) -> list[Range]:
    """Cut one file into pieces, at least one.

    Parts go into `folder`, numbered from `first_part`. Raises InputError for a damaged compressed file.
    """
    # Here, since tarfile takes 8 ms, and readers need none.
    from kit.corpus.raw.archive import is_archive

    if not is_packed(path) and not is_archive(path):
        cuts = _plain_cuts(path, unit_bytes, _BOUNDARY[kind])
        return ranges(path, list(itertools.pairwise(cuts)))
    if path.suffix.lower() == ".xz" and not is_archive(path):
        from kit.corpus.raw import seekable

        starts, size = seekable.blocks(path)
        at_blocks = _block_cuts(starts, size, unit_bytes)
        if at_blocks is not None:
            return ranges(path, list(itertools.pairwise(at_blocks)))
    parts = _parts(kind, path, folder, unit_bytes, first_part)
    return [_piece(part, 0, part.stat().st_size, file_hash(part)) for part in parts]


def ranges(path: Path, extents: Sequence[tuple[int, int]]) -> list[Range]:
    """Hash the ranges [start, end) of a file, or of the text in it, into pieces."""
    hashed = []
    with progress_bar(f"{path.name}, hashing", extents[-1][1] if extents else 0) as advance:
        for start, end in extents:
            hashed.append(_piece(path, start, end, digest(path, start, end)))
            advance(end)
    return hashed


def digest(path: Path, start: int, end: int) -> str:
    """The hash that identifies a range's bytes.

    In an xz file a document may reach into any later block, so it covers the whole file.
    """
    if path.suffix.lower() != ".xz":
        return file_hash(path, start, end)
    status = path.stat()
    return f"{text_hash(f'{_whole(path, status.st_size, status.st_mtime_ns)} {start} {end}'):016x}"


@functools.lru_cache(maxsize=1)
def _whole(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001  the cache's key
    hashes = []
    with progress_bar(f"{path.name}, hashing", size) as advance:
        for start, end in itertools.pairwise([*range(0, size, _STEP), size]):
            hashes.append(file_hash(path, start, end))
            advance(end)
    return " ".join(hashes)


def refuse_changed(piece: Range) -> None:
    """Raise InputError if the file of a piece is missing, or has changed since it was cut.

    A part may have been copied since, so it is identified by its hash, when it is read.
    """
    path = Path(piece["path"])
    status = path.stat() if path.exists() else None
    if status is None or (
        path.suffix != ".zst"
        and (status.st_size, status.st_mtime_ns) != (piece["size"], piece["mtime_ns"])
    ):
        raise InputError(f"{path}: {CHANGED}")


def _piece(path: Path, start: int, end: int, xxh3: str) -> Range:
    status = path.stat()
    return {
        "path": str(path),
        "start": start,
        "end": end,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "xxh3": xxh3,
    }


def _plain_cuts(path: Path, unit_bytes: int, boundary: re.Pattern[bytes]) -> list[int]:
    """Cut at ends of documents, so that a range and its hash cover all but a few bytes a task reads."""
    size = path.stat().st_size
    cuts = [0]
    with path.open("rb") as stream:
        while cuts[-1] + unit_bytes < size:
            end = _find(stream, cuts[-1] + unit_bytes, boundary)
            if end is None:
                break
            cuts.append(end)
    return [*cuts, size]


def _find(stream: IO[bytes], begin: int, boundary: re.Pattern[bytes]) -> int | None:
    """The first boundary at or after `begin`."""
    stream.seek(begin)
    buffer = b""
    while chunk := stream.read(CHUNK if buffer else 1 << 14):  # most boundaries are near
        buffer += chunk
        if match := boundary.search(buffer):
            return begin + match.start()
        searched = max(len(buffer) - _LONGEST_BOUNDARY, 0)
        buffer = buffer[searched:]
        begin += searched
    return None


def _block_cuts(starts: list[int], size: int, unit_bytes: int) -> list[int] | None:
    """Cut at starts of blocks, about `unit_bytes` apart; None if blocks are too few or too large."""
    if len(starts) < 2:
        return None
    ends = [*starts[1:], size]
    largest = max(end - start for start, end in zip(starts, ends, strict=True))
    if largest > _LARGEST_BLOCK * unit_bytes:
        return None
    cuts = [0]
    for end in ends:
        if end - cuts[-1] >= unit_bytes or end == size:
            cuts.append(end)
    return cuts


def _parts(kind: str, path: Path, folder: Path, unit_bytes: int, first: int) -> list[Path]:
    from kit.corpus.raw.archive import Members, is_archive

    parts: list[Path] = []
    with (
        Members(path, kind) if is_archive(path) else Unpacked(path) as text,
        progress_bar(f"{path.name}, cutting", path.stat().st_size) as advance,
    ):
        source = Cutter(text, unit_bytes, kind)
        while source.more or not parts:
            parts.append(folder / f"part-{first + len(parts):05d}.txt.zst")
            with _part(parts[-1]) as out:
                for chunk in source.part():
                    out.write(chunk)
                    advance(text.position)
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
            f"{path}: cannot be written ({error.strerror}); free some space, then run ekiden download again"
        ) from None


class _Text(Protocol):
    def read(self, size: int = ...) -> bytes: ...


class Cutter:
    """Cuts a stream of bytes into parts that end after the first boundary beyond `unit_bytes`."""

    def __init__(self, text: _Text, unit_bytes: int, kind: str) -> None:
        self._text = text
        self._unit = unit_bytes
        self._boundary = _BOUNDARY[kind]
        self._buffer = text.read().removeprefix(codecs.BOM_UTF8)  # Windows writes it at the head

    @property
    def more(self) -> bool:
        """Whether any bytes are left."""
        return bool(self._buffer)

    def part(self) -> Iterator[bytes]:
        """Yield the next part, in chunks."""
        length = 0
        while self._buffer:
            match = self._boundary.search(self._buffer, max(self._unit - length, 0))
            if match:
                yield self._buffer[: match.end()]
                self._buffer = self._buffer[match.end() :] or self._text.read()
                return
            # A boundary may begin in the last bytes, unless the text ends with them.
            chunk = self._text.read()
            ready = len(self._buffer) - (_LONGEST_BOUNDARY if chunk else 0)
            if ready > 0:
                yield self._buffer[:ready]
                length += ready
                self._buffer = self._buffer[ready:]
            self._buffer += chunk
