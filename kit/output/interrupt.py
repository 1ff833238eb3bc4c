"""What is ended and what is kept where the user ends a command: a block says so, and Ctrl-C tells it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_keeps = ["nothing is left half done"]  # of the innermost block last


@contextmanager
def keeping(text: str) -> Iterator[None]:
    """Say so, if the user ends the block: what is ended, and what is kept."""
    _keeps.append(text)
    try:
        yield
    finally:
        _keeps.pop()


def kept() -> str:
    """What the innermost block says."""
    return _keeps[-1]
