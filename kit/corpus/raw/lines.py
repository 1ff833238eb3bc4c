"""The lines of one piece of a text, checked one by one.

A piece that is a range [start, end) of a text owns the lines behind the line ends in it (the first piece
also line 1): it skips the line that contains its start, and reads its last line beyond its end. So every
line has exactly one owner, wherever the text is cut. A line end of several bytes counts as its first byte,
CR LF as its last.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kit.corpus import line_ends
from kit.corpus.raw.compression import Unpacked
from kit.corpus.raw.pieces import CHANGED, refuse_changed
from kit.errors import InputError
from kit.store.files import CHUNK, file_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece

LINE_BYTES = 1 << 22  # of a line of text, to bound a task's memory
# Line ends beside LF and CR, as patterns of UTF-8.
_OTHERS = {
    line_ends.UNICODE: (b"\v", b"\f", rb"\xc2\x85", rb"\xe2\x80[\xa8\xa9]"),
    line_ends.PYTHON: (),
}
_PART_OF_AN_END = re.compile(rb"(?:\r|\xc2|\xe2\x80?)\Z")  # the end of a line may go on behind it


class Lines:
    """An iterator over the raw lines from the start of a piece to the end of its file.

    A line is bytes without their end (of CR LF the CR stays), or None if it has more than `limit` bytes.
    Line feed, carriage return and `others` (line_ends.py) end one. During iteration `start` is the offset
    of the current line in the text, and `owned` whether it belongs to the piece.

    If a reader sets `room`, owned lines without fault that fit into it together come as a list of texts
    without their ends, which takes a tenth of the time.
    """

    def __init__(
        self, piece: Piece, limit: int = LINE_BYTES, others: str = line_ends.UNICODE
    ) -> None:
        self.room = 0  # bytes
        self.start = 0
        self._end_before = -1  # the offset of the line end before the current line
        self._others = _OTHERS[others]
        self._any_end = re.compile(b"|".join([rb"\n|\r(?!\n)", *self._others]))
        self._number = 0
        self._piece = piece
        self._limit = limit
        self._path = Path(piece["path"])
        self._is_part = self._path.suffix == ".zst"  # a source that is .zst is never read directly
        self._end = math.inf if self._is_part else piece["end"]

    @property
    def at_head(self) -> bool:
        """Whether the piece begins with its text."""
        return bool(self._piece["start"] == 0)

    @property
    def owned(self) -> bool:
        """Whether the current line belongs to the piece."""
        return self._end_before < self._end

    @property
    def place(self) -> str:
        """The place of the current line, for messages."""
        if self.at_head:
            return f"{self._path}, line {self._number}"
        return f"{self._path}, the line at byte {self.start} of the text"

    def __iter__(self) -> Iterator[bytes | list[str] | None]:
        """Yield the lines. Raises InputError if the file is damaged, or has changed since it was cut."""
        self._verify()
        within = not self.at_head  # the current line began before the piece
        start = self._piece["start"]
        line = b""  # the current line, as read so far
        lost = 0  # bytes of it that were dropped
        before = self._end_before
        mark = codecs.BOM_UTF8 if self.at_head and not self._is_part else b""
        with self._open() as text:
            for read in _chunks(text):
                chunk = read.removeprefix(mark)
                start += len(read) - len(chunk)
                mark = b""
                size = 0 if within or lost else len(line) + chunk.rfind(b"\n") + 1
                if len(line) < size <= min(self.room, self._limit) and start + size <= self._end:
                    chunk, line = line + chunk, b""
                    if texts := _texts(chunk[:size]):
                        self._number += len(texts)
                        before, start = start + size - 1, start + size
                        chunk = chunk[size:]
                        yield texts
                rows, widths = self._rows(chunk)
                rows[0] = line + rows[0]
                line = rows.pop()
                for row, width in zip(rows, widths, strict=False):
                    self.start, self._end_before = start, before
                    self._number += 1
                    before = start + lost + len(row)
                    start = before + width
                    if not within:
                        yield None if lost or len(row) > self._limit else row
                    within = False
                    lost = 0
                if within or lost or len(line) > self._limit:
                    lost += len(line)
                    line = b""
        if (line or lost) and not within:
            self.start, self._end_before = start, before
            self._number += 1
            yield None if lost else line

    def text(self, raw: bytes | None, bad_input: BadInput) -> str | None:
        """Decode the current line, without its line end; None if it is bad, as reported to `bad_input`."""
        if raw is None:
            bad_input.report(
                "line_too_long",
                f"{self.place}: more than {self._limit} bytes; is this text? Break the line",
            )
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            bad_input.report(
                "not_utf8",
                f"{self.place}: byte {error.start + 1} of the line is not UTF-8; "
                "convert the file with iconv",
            )
            return None
        if "\0" in text:
            bad_input.report(
                "nul",
                f"{self.place}: character {text.index(chr(0)) + 1} is NUL; is this text? Remove the NUL",
            )
            return None
        return text.removesuffix("\r")

    def _rows(self, chunk: bytes) -> tuple[list[bytes], Iterable[int]]:
        """Split a chunk at the ends of lines; also the bytes of each of these ends."""
        lone = b"\r" in chunk and chunk.count(b"\r") > chunk.count(b"\r\n")
        if not lone and not any(_occurs(end, chunk) for end in self._others):
            return chunk.split(b"\n"), itertools.repeat(1)
        spans = [match.span() for match in self._any_end.finditer(chunk)]
        starts, stops = [0, *(end for _, end in spans)], [*(start for start, _ in spans), None]
        rows = [chunk[start:stop] for start, stop in zip(starts, stops, strict=True)]
        return rows, [end - start for start, end in spans]

    def _verify(self) -> None:
        refuse_changed(self._piece)
        if self._is_part and file_hash(self._path) != self._piece["xxh3"]:
            raise InputError(f"{self._path}: {CHANGED}")

    @contextlib.contextmanager
    def _open(self) -> Iterator[_Text]:
        if self._is_part:
            with Unpacked(self._path) as part:
                yield part
        elif self._path.suffix.lower() == ".xz":
            from kit.corpus.raw import seekable  # here, as python-xz takes 15 ms to import

            with seekable.opened(self._path, self._piece["start"]) as blocks:
                yield blocks
        else:
            with self._path.open("rb") as plain:
                plain.seek(self._piece["start"])
                yield plain


def _texts(raw: bytes) -> list[str]:
    """The lines of a text that ends with a line feed; none unless all are ended so, and free of faults."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return []
    lines = text.splitlines()  # at every end that any text may have, and some control characters
    return [] if len(lines) != text.count("\n") or "\0" in text else lines


def _occurs(end: bytes, chunk: bytes) -> bool:
    # Each in its quickest way: for several bytes `in` takes four times as long.
    return end in chunk if len(end) == 1 else re.search(end, chunk) is not None


def _chunks(text: _Text) -> Iterator[bytes]:
    """Read a text in chunks that do not end within the end of a line."""
    held = b""
    while read := text.read(CHUNK):
        chunk = held + read if held else read
        part = _PART_OF_AN_END.search(chunk[-2:])
        held = part[0] if part else b""
        yield chunk.removesuffix(held)
    if held:
        yield held


class _Text(Protocol):
    def read(self, size: int, /) -> bytes: ...
