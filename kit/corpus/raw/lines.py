"""The lines of one piece of a text, checked one by one.

A piece that is a range of a text owns the line starts p with start < p <= end (the first piece also 0):
it skips the line that contains its start, and reads its last line beyond its end. So every line has
exactly one owner, wherever the text is cut.
"""

from __future__ import annotations

import codecs
import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kit.corpus.raw import seekable
from kit.corpus.raw.compression import Unpacked
from kit.corpus.raw.pieces import CHANGED, refuse_changed
from kit.errors import InputError
from kit.store.files import CHUNK, file_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece

LINE_BYTES = 1 << 22  # of a line of text, to bound a task's memory


class Lines:
    """An iterator over the raw lines from the start of a piece to the end of its file.

    A line is bytes without the line feed, or None if it has more than `limit` bytes. During iteration
    `start` is the offset of the current line in the text, and `owned` whether it starts in the piece.
    """

    def __init__(self, piece: Piece, limit: int = LINE_BYTES) -> None:
        self.start = 0
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
        """Whether the current line starts in the piece."""
        return self.start <= self._end

    @property
    def place(self) -> str:
        """The place of the current line, for messages."""
        if self.at_head:
            return f"{self._path}, line {self._number}"
        return f"{self._path}, the line at byte {self.start} of the text"

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield the lines. Raises InputError if the file is damaged, or has changed since it was cut."""
        self._verify()
        within = not self.at_head  # the current line began before the piece
        start = self._piece["start"]
        line = b""  # the current line, as read so far
        lost = 0  # bytes of it that were dropped
        with self._open() as text:
            chunk = text.read(CHUNK)
            if self.at_head and not self._is_part and chunk.startswith(codecs.BOM_UTF8):
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
                start += len(codecs.BOM_UTF8)
            while chunk:
                rows = chunk.split(b"\n")
                rows[0] = line + rows[0]
                line = rows.pop()
                for row in rows:
                    self.start = start
                    self._number += 1
                    start += lost + len(row) + 1
                    if not within:
                        yield None if lost or len(row) > self._limit else row
                    within = False
                    lost = 0
                if within or lost or len(line) > self._limit:
                    lost += len(line)
                    line = b""
                chunk = text.read(CHUNK)
        if (line or lost) and not within:
            self.start = start
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
            with seekable.opened(self._path, self._piece["start"]) as blocks:
                yield blocks
        else:
            with self._path.open("rb") as plain:
                plain.seek(self._piece["start"])
                yield plain


class _Text(Protocol):
    def read(self, size: int, /) -> bytes: ...
