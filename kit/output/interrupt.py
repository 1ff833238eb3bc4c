"""The message that Ctrl-C prints: a block of code sets it to the consequences of an interruption."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_messages = ["nothing is left half done"]  # the innermost block's is the last


@contextmanager
def keeping(message: str) -> Iterator[None]:
    """Set the message for an interruption of the block: the work that ends, and the results kept."""
    _messages.append(message)
    try:
        yield
    finally:
        _messages.pop()


def kept() -> str:
    """The message of the innermost block."""
    return _messages[-1]
