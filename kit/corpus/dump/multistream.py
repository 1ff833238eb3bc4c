"""A multistream dump: a sequence of bz2 streams, cut into ranges of whole streams, and read in pieces.

header_end, ranges = stream_ranges(path, 64_000_000, index)
for offset, pieces in streams(path, start, end, bad_input):
    ...  # pieces of the text of the stream at byte `offset`

Each stream decompresses on its own. Streams that end within pages, as a parallel bzip2 writes them, are
read by kit/corpus/dump/continuous.py. The starts come from the dump's index, or from a scan for the
bytes that open a stream; both give the same ranges. Memory is bounded by `HELD` and a few pieces, however
much a stream decompresses to.
"""

from __future__ import annotations

import bz2
import itertools
import re
from array import array
from collections import deque
from typing import IO, TYPE_CHECKING

from kit.errors import DamagedFile, InputError
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kit.corpus.bad_input import BadInput

HELD = 32 << 20  # bytes of a stream to keep while it is checked; real ones have 1 to 10 MB
_MAGIC = re.compile(rb"BZh[1-9]1AY&SY")  # a bz2 stream with a first block
_MAGIC_SIZE = 10
_BLOCK = b"1AY&SY"  # for `bytes.find`, which is four times as fast as the pattern
_HEADER_END = b"</siteinfo>"
_CLOSING = b"</mediawiki>"
_TAIL = 1000  # bytes of the end of the text that are searched for the closing tag
_INDEX_LINE = 4096  # bytes; a title has 255 at most


class Damage(Exception):  # noqa: N818  not an error yet: the recipe decides
    """A stream that does not decompress to its end."""


def stream_ranges(
    path: Path, unit_bytes: int, index: Path | None = None
) -> tuple[int, list[tuple[int, int]]]:
    """Cut a dump into byte ranges of whole streams, each about `unit_bytes` of compressed input.

    Returns the end of the header stream, and the ranges [start, end) after it; if that stream
    does not end with the header, 0 and ranges of the whole dump. Raises InputError for a
    file that is not a multistream dump or is truncated, and for an index that cannot be read or belongs
    to another dump.
    """
    with path.open("rb") as file:
        if file.read(3) != b"BZh":
            raise InputError(
                f"{path}: not a bz2 file; give a pages-articles-multistream.xml.bz2 dump"
            )
    indexed = None if index is None else _indexed(path, index)
    starts = (
        _scan(path, 0)
        if indexed is None
        else itertools.chain(indexed, _scan(path, indexed[-1] + 1))
    )
    header_end = next(starts, None) if next(starts, None) == 0 else None
    if header_end is None:
        raise InputError(f"{path}: not a sequence of bz2 streams; give a multistream dump")
    ranges = []
    first = header_end if _ends_with_header(path, header_end) else 0
    begin, before, last = first, first, header_end
    for start in starts:
        before, last = last, start
        if last - begin >= unit_bytes:
            ranges.append((begin, last))
            begin = last
    size = path.stat().st_size
    _check_closing(path, last, size, last if first else before)
    return first, [*ranges, (begin, size)]


def streams(
    path: Path, start: int, end: int, bad_input: BadInput
) -> Iterator[tuple[int, int, Iterable[bytes]]]:
    """Yield start and end of each stream of a range, and its text in pieces of at most CHUNK bytes.

    A stream is yielded once it has decompressed to its end, so that a damaged one yields nothing: it is
    reported to `bad_input`, and a scan finds the next one. One larger than `HELD` is decompressed twice,
    the first time to check it.
    """
    with path.open("rb") as file:
        offset = start
        while offset < end:
            stream = Stream(file, offset, end)
            try:
                pieces = _checked(stream)
            except Damage as damage:
                bad_input.report("stream_damaged", f"{path}: {damage}; download it again")
                offset = next(_scan(path, offset + 1, end), end)
                continue
            yield offset, stream.end, pieces
            offset = stream.end


class Stream:
    """The text of the bz2 stream at byte `start` of a file; `end` is valid after iteration."""

    def __init__(self, file: IO[bytes], start: int, limit: int) -> None:
        self.start = self.end = start
        self._file, self._limit = file, limit

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces of at most CHUNK bytes. Raises Damage unless the stream ends before `limit`."""
        decompressor = bz2.BZ2Decompressor()
        position = self._file.seek(self.start)
        while not decompressor.eof:
            raw = b""
            if decompressor.needs_input:
                raw = self._file.read(min(CHUNK, self._limit - position))
                position += len(raw)
                if not raw:
                    raise Damage(f"the bz2 stream at byte {self.start} is truncated")
            try:
                piece = decompressor.decompress(raw, CHUNK)  # a bomb comes out in pieces too
            except OSError as error:
                raise Damage(f"damaged bz2 stream at byte {self.start} ({error})") from None
            if piece:
                yield piece
        self.end = position - len(decompressor.unused_data)


def _ends_with_header(path: Path, end: int) -> bool:
    """Whether the first stream, which ends at byte `end`, ends with the header of the dump."""
    tail = b""
    try:
        with path.open("rb") as file:
            for piece in Stream(file, 0, end):
                tail = (tail + piece)[-_TAIL:]
    except Damage:  # reported when the header is read
        return True
    return tail.rstrip().endswith(_HEADER_END)


def _checked(stream: Stream) -> list[bytes] | Stream:
    """The pieces of a complete stream; the stream itself if they are too large to keep."""
    pieces: list[bytes] = []
    size = 0
    for piece in stream:
        size += len(piece)
        if size <= HELD:
            pieces.append(piece)
        else:
            pieces.clear()
    return pieces if size <= HELD else stream


def _scan(path: Path, offset: int, end: int | None = None) -> Iterator[int]:
    """Yield the starts of streams from byte `offset` on."""
    with path.open("rb") as file:
        file.seek(offset)
        data = b""
        while chunk := file.read(CHUNK):
            data += chunk
            block = data.find(_BLOCK)
            while block >= 0:
                start = block + len(_BLOCK) - _MAGIC_SIZE
                if start >= 0 and _MAGIC.match(data, start):
                    if end is not None and offset + start >= end:
                        return
                    yield offset + start
                block = data.find(_BLOCK, block + 1)
            offset += max(0, len(data) - _MAGIC_SIZE + 1)
            if end is not None and offset >= end:
                return
            data = data[-_MAGIC_SIZE + 1 :]


def _indexed(path: Path, index: Path) -> array[int] | None:
    """The starts of the header and of the page streams; None if index and dump do not quite match.

    Only starts confirmed in the dump are kept: 8 bytes a stream, 2 MB for the largest Wikipedia.
    """
    size = path.stat().st_size
    starts, mismatches = array("Q", [0]), 0
    with path.open("rb") as file:
        for offset in _offsets(index):
            if offset + _MAGIC_SIZE > size:
                raise InputError(
                    f"{index}: refers to byte {offset}, but {path} has only {size}: the dump is truncated, "
                    "or the index belongs to another dump; download both again"
                )
            file.seek(offset)
            if _MAGIC.match(file.read(_MAGIC_SIZE)):
                starts.append(offset)
            else:
                mismatches += 1
        if mismatches >= len(starts):
            raise InputError(
                f"{index}: no stream of {path} begins at its offsets, so it belongs to another dump; "
                "give the index of the same date"
            )
        if len(starts) == 1:
            return None
        header = Stream(file, 0, starts[1])
        try:
            deque(header, maxlen=0)
        except Damage:
            return None
    return starts if header.end == starts[1] else None


def _offsets(index: Path) -> Iterator[int]:
    """Yield the distinct offsets of an index: lines `offset:page id:title`, as bz2 or plain."""
    with index.open("rb") as plain:
        packed = plain.read(3) == b"BZh"
    last = 0
    with bz2.open(index) if packed else index.open("rb") as lines:
        try:
            for number, line in enumerate(iter(lambda: lines.readline(_INDEX_LINE), b""), 1):
                offset = line.partition(b":")[0]
                if not offset.isdigit() or len(offset) > 18 or int(offset) < last:
                    raise InputError(
                        f"{index}, line {number}: not a line `offset:page id:title` of a multistream "
                        "index; give the dump's index, or leave the key out"
                    )
                if int(offset) > last:
                    yield (last := int(offset))
        except (OSError, EOFError) as error:
            raise InputError(
                f"{index}: cannot be read ({error}); download it again, or leave the key out"
            ) from None


def _check_closing(path: Path, start: int, size: int, begin: int) -> None:
    """Raise DamagedFile unless the last stream, at byte `start`, is complete and closes the dump.

    The tag that closes it may begin in the stream before, at byte `begin`.
    """
    tail = b""
    with path.open("rb") as file:
        position = begin
        try:
            while position < size:
                stream = Stream(file, position, size)
                for piece in stream:
                    tail = (tail + piece)[-_TAIL:]
                position = stream.end
        except Damage as damage:
            raise DamagedFile(f"{path}: {damage}; download the dump again") from None
    if not tail.rstrip().endswith(_CLOSING):
        raise DamagedFile(
            f"{path}: the dump is truncated: its last stream, at byte {start}, does not close it; "
            "download it again"
        )
