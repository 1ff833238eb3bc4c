"""xz texts of several blocks: any byte of the text can be reached by decompressing one block.

`xz -T0` and pixz write such files. The index at the end of a stream lists the blocks (`xz -l` shows
them). Only this module imports python-xz.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import xz
from xz.common import XZError

from kit.errors import DamagedFile
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def blocks(path: Path) -> tuple[list[int], int]:
    """The offset of each block in the text, and the length of the text, in bytes.

    Raises DamagedFile for a file whose index is damaged or truncated.
    """
    with _opened(path) as stream:
        return sorted(set(stream.block_boundaries)), len(stream)


class Blocks:
    """The text of an xz file from byte `start` on."""

    def __init__(self, path: Path, stream: xz.XZFile, start: int) -> None:
        self._path = path
        self._stream = stream
        stream.seek(start)

    def read(self, size: int = CHUNK) -> bytes:
        """Read at most `size` bytes; empty only at the end. Raises DamagedFile if a block is damaged."""
        try:
            return self._stream.read(size)
        except (XZError, OSError, EOFError) as error:
            raise DamagedFile(
                f"{self._path}: damaged or truncated near byte {self._stream.tell()} of its text "
                f"({error}); get a fresh copy"
            ) from None


@contextlib.contextmanager
def opened(path: Path, start: int) -> Iterator[Blocks]:
    """Open the text of an xz file at byte `start`."""
    with _opened(path) as stream:
        yield Blocks(path, stream, start)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[xz.XZFile]:
    try:
        stream = xz.XZFile(path)
    except (XZError, OSError, EOFError) as error:
        raise DamagedFile(
            f"{path}: damaged or truncated: its index should end at byte {path.stat().st_size} ({error}); "
            "get a fresh copy"
        ) from None
    with stream:
        yield stream
