"""Standard streams that work does not depend on: text that cannot be written is dropped.

    with streams.spared(): ...

The disk of a log may be full, a terminal closed, the reader of a pipe gone, as `tee` after Ctrl-C. An error
there would end training before it has saved.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.EIO, errno.EPIPE)  # EIO: a terminal that was closed


@contextmanager
def spared() -> Iterator[None]:
    """Spare the block errors on stderr, and on stdout if that is a terminal: it has no other reader."""
    before = sys.stdout, sys.stderr
    if sys.stdout.isatty():
        sys.stdout = _lossy(sys.stdout)
    with suppress(io.UnsupportedOperation):  # not a file, within a test
        sys.stderr = _lossy(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def spare_both() -> None:
    """Spare this process errors on both: a task, whose streams are its log."""
    sys.stdout, sys.stderr = _lossy(sys.stdout), _lossy(sys.stderr)


def say(line: str) -> None:
    """Write a line on stderr from a handler of a signal, which may have interrupted a print."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _lossy(stream: TextIO) -> TextIO:
    stream.flush()
    lossy = cast("IO[bytes]", _Lossy(stream.fileno()))
    return io.TextIOWrapper(lossy, stream.encoding, stream.errors, write_through=True)


class _Lossy(io.FileIO):
    """A file that is written as far as it can be."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        """See io.FileIO; what is dropped counts as written."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (*_FULL, *_GONE):
                raise
            return len(data)
