"""The lines of one piece of a text, checked one by one.

A piece that is a range of a text owns the line starts p with start < p <= end (the first also 0):
it passes over the line it falls into, and what is open at its end is read beyond it. So every line
has one owner, wherever the text is cut.
"""

from __future__ import annotations

import codecs
import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kit.corpus.raw import seekable
from kit.corpus.raw.compression import Unpacked
from kit.corpus.raw.pieces import OTHER, refuse_changed
from kit.errors import InputError
from kit.store.files import CHUNK, file_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece

LINE_BYTES = 1 << 22  # of a line of text: a limit on a task's memory


class Lines:
    """An iterator over the raw lines from the start of a piece to the end of its file.

    A line is bytes without the line feed, or None where it has over `limit` bytes. While a line is at
    hand, `start` is its first byte in the text and `owned` tells whether it starts in the piece.
    """

    def __init__(self, piece: Piece, limit: int = LINE_BYTES) -> None:
        self.start = 0
        self._number = 0
        self._piece = piece
        self._limit = limit
        self._path = Path(piece["path"])
        self._is_part = self._path.suffix == ".zst"  # a .zst text is never read as it is
        self._end = math.inf if self._is_part else piece["end"]

    @property
    def at_head(self) -> bool:
        """Whether the piece begins with its text."""
        return bool(self._piece["start"] == 0)

    @property
    def owned(self) -> bool:
        """Whether the line at hand starts in the piece."""
        return self.start <= self._end

    @property
    def place(self) -> str:
        """Where the line at hand is, for a message."""
        if self.at_head:
            return f"{self._path}, line {self._number}"
        return f"{self._path}, the line at byte {self.start} of the text"

    def __iter__(self) -> Iterator[bytes | None]:
        """Raises InputError where the file is not the one that was cut, or is damaged."""
        self._verify()
        within = not self.at_head  # the line at hand began before the piece
        start = self._piece["start"]
        held = b""  # the line at hand, as far as it was read
        lost = 0  # bytes of it that were not kept
        with self._open() as text:
            chunk = text.read(CHUNK)
            if self.at_head and not self._is_part and chunk.startswith(codecs.BOM_UTF8):
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
                start += len(codecs.BOM_UTF8)
            while chunk:
                rows = chunk.split(b"\n")
                rows[0] = held + rows[0]
                held = rows.pop()
                for row in rows:
                    self.start = start
                    self._number += 1
                    start += lost + len(row) + 1
                    if not within:
                        yield None if lost or len(row) > self._limit else row
                    within = False
                    lost = 0
                if within or lost or len(held) > self._limit:
                    lost += len(held)
                    held = b""
                chunk = text.read(CHUNK)
        if (held or lost) and not within:
            self.start = start
            self._number += 1
            yield None if lost else held

    def text(self, raw: bytes | None, faults: BadInput) -> str | None:
        """The line at hand without its line end; None where it is at fault, which `faults` is told."""
        if raw is None:
            faults.report(
                "line_too_long",
                f"{self.place}: has over {self._limit} bytes; is this a text? Break the line",
            )
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            faults.report(
                "not_utf8",
                f"{self.place}: byte {error.start + 1} of the line is not UTF-8; "
                "convert the file with iconv",
            )
            return None
        if "\0" in text:
            faults.report(
                "nul",
                f"{self.place}: character {text.index(chr(0)) + 1} is NUL; is this a text? Take it out",
            )
            return None
        return text.removesuffix("\r")

    def _verify(self) -> None:
        refuse_changed(self._piece)
        if self._is_part and file_hash(self._path) != self._piece["xxh3"]:
            raise InputError(f"{self._path}: {OTHER}")

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
