"""A dump whose bz2 streams end anywhere, as pbzip2 writes them: pages run on from one stream into the next.

A page belongs to the range in which its tag `<page>` begins; its end is read from the streams after the
range. So the ranges give every page once, however the dump is cut.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kit.corpus.bad_input import BadInput
from kit.corpus.dump.multistream import Stream, streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_OPENING, _CLOSING = b"<page>", b"</page>"
_HEADER_END = b"</siteinfo>"


def header(path: Path, size: int, limit: int) -> bytes:
    """The header of a dump, from its first `size` bytes: about `limit` bytes at most. Raises Damage."""
    text, offset = b"", 0
    with path.open("rb") as file:
        while offset < size:
            stream = Stream(file, offset, size)
            for piece in stream:
                text += piece
                if _HEADER_END in text or len(text) > limit:
                    return text
            offset = stream.end
    return text


def runs(
    path: Path, start: int, end: int, bad_input: BadInput
) -> Iterator[tuple[int, int, Iterator[bytes]]]:
    """Yield start and end of each run of undamaged streams of a range, and the pages that begin in it.

    A damaged stream is reported to `bad_input`. The pages come in pieces, without the text between them;
    one that damage cuts comes without its end.
    """
    own = streams(path, start, end, bad_input)
    pending = next(own, None)
    while pending is not None:
        run = _Run(own, pending)
        yield pending[0], end, _pages(_text(run, path, end))
        pending = run.next


class _Run:
    """The streams from one on that follow each other without a gap."""

    def __init__(
        self,
        own: Iterator[tuple[int, int, Iterable[bytes]]],
        first: tuple[int, int, Iterable[bytes]],
    ) -> None:
        self._own = own
        self.next: tuple[int, int, Iterable[bytes]] | None = first
        self.end = first[0]

    def __iter__(self) -> Iterator[bytes]:
        while self.next is not None and self.next[0] == self.end:
            _, self.end, pieces = self.next
            yield from pieces
            self.next = next(self._own, None)


def _text(run: _Run, path: Path, end: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of a run, and of the streams after its range; whether a piece is of the range."""
    yield from zip(run, itertools.repeat(True))
    if run.end < end:
        return
    position, size = end, path.stat().st_size
    # Damage in these streams is reported with the range that has them.
    for offset, after, pieces in streams(path, end, size, BadInput("skip")):
        if offset != position:
            return
        position = after
        yield from zip(pieces, itertools.repeat(False))


def _pages(pieces: Iterable[tuple[bytes, bool]]) -> Iterator[bytes]:
    """Yield the pages that begin in the pieces of the range."""
    text, beyond, inside = b"", 0, False  # the last `beyond` bytes of the text are not of the range
    for piece, is_own in pieces:
        text += piece
        beyond += 0 if is_own else len(piece)
        position = 0
        while True:
            tag = _CLOSING if inside else _OPENING
            found = text.find(tag, position)
            if found < 0:
                break
            if inside:
                yield text[position : found + len(tag)]
                position = found + len(tag)
            elif found >= len(text) - beyond:
                return
            else:
                position = found
            inside = not inside
        rest = max(position, len(text) - len(tag) + 1)  # it may be the beginning of the tag
        if inside and rest > position:
            yield text[position:rest]
        text = text[rest:]
        if not is_own and not inside and len(text) <= beyond:
            return
        beyond = min(beyond, len(text))
