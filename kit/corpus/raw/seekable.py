"""xz texts of several blocks: any byte of the text is reached by decompressing one block.

`xz -T0` and pixz write such files. The blocks stand in the index at the end of a stream, which
`xz -l` shows. The door of python-xz.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import xz
from xz.common import XZError

from kit.errors import InputError
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def blocks(path: Path) -> tuple[list[int], int]:
    """Where in the text each block begins, and the length of the text.

    Raises InputError for a file whose index is damaged or cut off.
    """
    with _opened(path) as stream:
        return sorted(set(stream.block_boundaries)), len(stream)


class Blocks:
    """The text of such a file from a position on."""

    def __init__(self, path: Path, stream: xz.XZFile, start: int) -> None:
        self._path = path
        self._stream = stream
        stream.seek(start)

    def read(self, size: int = CHUNK) -> bytes:
        """At most `size` bytes; none only at the end. Raises InputError where a block is damaged."""
        try:
            return self._stream.read(size)
        except (XZError, OSError, EOFError) as error:
            raise InputError(
                f"{self._path}: damaged or cut near byte {self._stream.tell()} of its text ({error}); "
                "get it again"
            ) from None


@contextlib.contextmanager
def opened(path: Path, start: int) -> Iterator[Blocks]:
    """The text from byte `start` on."""
    with _opened(path) as stream:
        yield Blocks(path, stream, start)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[xz.XZFile]:
    try:
        stream = xz.XZFile(path)
    except (XZError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: damaged or cut: its index should end at byte {path.stat().st_size} ({error}); "
            "get it again"
        ) from None
    with stream:
        yield stream
