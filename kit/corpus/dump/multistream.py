"""A multistream dump: a row of bz2 streams, cut into ranges of whole streams, and read in pieces.

header_end, ranges = stream_ranges(path, 64_000_000, index)
for at, pieces in streams(path, start, end, faults):
    ...  # pieces of the text of the stream at byte `at`

Each stream decompresses on its own. The starts come from the dump's index, or from a scan for the
bytes that open a stream; both give the same ranges. Nothing here holds more than `HELD` and a few
pieces, whatever a stream decompresses to.
"""

from __future__ import annotations

import bz2
import itertools
import re
from array import array
from collections import deque
from typing import IO, TYPE_CHECKING

from kit.errors import InputError
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kit.corpus.bad_input import BadInput

HELD = 32 << 20  # bytes of a stream that are kept while it is checked; real ones have 1 to 10 MB
_MAGIC = re.compile(rb"BZh[1-9]1AY&SY")  # a bz2 stream with a first block
_MAGIC_SIZE = 10
_BLOCK = b"1AY&SY"  # what `bytes.find` looks for: four times as fast as the pattern
_CLOSING = b"</mediawiki>"
_TAIL = 1000  # bytes of the end of the text that are looked at
_INDEX_LINE = 4096  # bytes; a title has 255 at most


class Damage(Exception):  # noqa: N818  not an error yet: the recipe decides
    """A stream that does not decompress to its end."""


def stream_ranges(
    path: Path, unit_bytes: int, index: Path | None = None
) -> tuple[int, list[tuple[int, int]]]:
    """Cut a dump into byte ranges of whole streams, each about `unit_bytes` of compressed input.

    Returns the end of the header stream, and the ranges [start, end) behind it. Raises InputError
    for a file that is no multistream dump or ends too early, and for an index that cannot be read
    or is of another dump.
    """
    with path.open("rb") as file:
        if file.read(3) != b"BZh":
            raise InputError(
                f"{path}: not a bz2 file; give a pages-articles-multistream.xml.bz2 dump"
            )
    known = None if index is None else _indexed(path, index)
    found = _scan(path, 0) if known is None else itertools.chain(known, _scan(path, known[-1] + 1))
    header_end = next(found, None) if next(found, None) == 0 else None
    if header_end is None:
        raise InputError(f"{path}: holds no row of bz2 streams; give a multistream dump")
    ranges = []
    begin = last = header_end
    for last in found:
        if last - begin >= unit_bytes:
            ranges.append((begin, last))
            begin = last
    size = path.stat().st_size
    _check_closing(path, last, size)
    return header_end, [*ranges, (begin, size)]


def streams(
    path: Path, start: int, end: int, faults: BadInput
) -> Iterator[tuple[int, Iterable[bytes]]]:
    """The streams of a range: where each begins, and its text in pieces of at most CHUNK bytes.

    A stream is given once it has decompressed to its end, so that a damaged one gives nothing at
    all: it goes through `faults`, and the next one is looked for. One that holds more than `HELD`
    is decompressed twice, once to check it.
    """
    with path.open("rb") as file:
        at = start
        while at < end:
            stream = Stream(file, at, end)
            try:
                pieces = _checked(stream)
            except Damage as damage:
                faults.report("stream_damaged", f"{path}: {damage}; download it again")
                at = next(_scan(path, at + 1, end), end)
                continue
            yield at, pieces
            at = stream.end


class Stream:
    """The text of the bz2 stream at byte `at` of a file, piece by piece; then `end` is known."""

    def __init__(self, file: IO[bytes], at: int, limit: int) -> None:
        self.at = self.end = at
        self._file, self._limit = file, limit

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of at most CHUNK bytes. Raises Damage where the stream is not whole before `limit`."""
        decompressor = bz2.BZ2Decompressor()
        at = self._file.seek(self.at)
        while not decompressor.eof:
            raw = b""
            if decompressor.needs_input:
                raw = self._file.read(min(CHUNK, self._limit - at))
                at += len(raw)
                if not raw:
                    raise Damage(f"the bz2 stream at byte {self.at} is cut")
            try:
                piece = decompressor.decompress(raw, CHUNK)  # a bomb comes out in pieces too
            except OSError as error:
                raise Damage(f"damaged bz2 stream at byte {self.at} ({error})") from None
            if piece:
                yield piece
        self.end = at - len(decompressor.unused_data)


def _checked(stream: Stream) -> list[bytes] | Stream:
    """The pieces of a whole stream; or the stream itself where they are too many to hold."""
    held: list[bytes] = []
    size = 0
    for piece in stream:
        size += len(piece)
        if size <= HELD:
            held.append(piece)
        else:
            held.clear()
    return held if size <= HELD else stream


def _scan(path: Path, at: int, end: int | None = None) -> Iterator[int]:
    """Where streams begin, from byte `at` on."""
    with path.open("rb") as file:
        file.seek(at)
        data = b""
        while chunk := file.read(CHUNK):
            data += chunk
            found = data.find(_BLOCK)
            while found >= 0:
                start = found + len(_BLOCK) - _MAGIC_SIZE
                if start >= 0 and _MAGIC.match(data, start):
                    if end is not None and at + start >= end:
                        return
                    yield at + start
                found = data.find(_BLOCK, found + 1)
            at += max(0, len(data) - _MAGIC_SIZE + 1)
            if end is not None and at >= end:
                return
            data = data[-_MAGIC_SIZE + 1 :]


def _indexed(path: Path, index: Path) -> array[int] | None:
    """The starts of the header and of the streams of pages, or None where the two do not quite fit.

    Only what was found in the dump is kept: 8 bytes a stream, 2 MB for the largest Wikipedia.
    """
    size = path.stat().st_size
    starts, wrong = array("Q", [0]), 0
    with path.open("rb") as file:
        for offset in _offsets(index):
            if offset + _MAGIC_SIZE > size:
                raise InputError(
                    f"{index}: names byte {offset}, and {path} has {size}: the dump is cut, or the "
                    "index is of another dump; get both again"
                )
            file.seek(offset)
            if _MAGIC.match(file.read(_MAGIC_SIZE)):
                starts.append(offset)
            else:
                wrong += 1
        if wrong >= len(starts):
            raise InputError(
                f"{index}: no stream begins where it says, so it is of another dump than {path}; "
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
    """The distinct offsets of an index: lines `offset:page id:title`, as bz2 or plain."""
    with index.open("rb") as plain:
        packed = plain.read(3) == b"BZh"
    last = 0
    with bz2.open(index) if packed else index.open("rb") as lines:
        try:
            for number, line in enumerate(iter(lambda: lines.readline(_INDEX_LINE), b""), 1):
                offset = line.partition(b":")[0]
                if not offset.isdigit() or len(offset) > 18 or int(offset) < last:
                    raise InputError(
                        f"{index}, line {number}: not the `offset:page id:title` of an index of a "
                        "multistream dump; give its index, or leave it out"
                    )
                if int(offset) > last:
                    yield (last := int(offset))
        except (OSError, EOFError) as error:
            raise InputError(
                f"{index}: cannot be read ({error}); get it again, or leave it out"
            ) from None


def _check_closing(path: Path, at: int, size: int) -> None:
    """Raise InputError unless the last stream, at byte `at`, is whole and closes the dump."""
    tail = b""
    with path.open("rb") as file:
        after = at
        try:
            while after < size:
                stream = Stream(file, after, size)
                for piece in stream:
                    tail = (tail + piece)[-_TAIL:]
                after = stream.end
        except Damage as damage:
            raise InputError(f"{path}: {damage}; download the dump again") from None
    if not tail.rstrip().endswith(_CLOSING):
        raise InputError(
            f"{path}: the dump is cut: the stream at byte {at} does not close it; download it again"
        )
