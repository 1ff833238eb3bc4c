"""One look at many folders: within the block each manifest is read once, however often it is asked for.

    with look.once():
        survey(...)

The stages of a chain ask for the manifests of those before them, some for the same ten thousand, and a look
should find them as they were at one moment. What is remembered is forgotten with the block; other threads
have looks of their own.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

T = TypeVar("T")

_remembered: ContextVar[dict[Hashable, object] | None] = ContextVar("look", default=None)


@contextmanager
def once() -> Iterator[None]:
    """Remember what `remember` finds until the end of the block; a block within a block is part of it."""
    if _remembered.get() is not None:
        yield
        return
    token, collects = _remembered.set({}), gc.isenabled()
    gc.disable()  # nothing is freed before the end, and a search for it would take a quarter of the time
    try:
        yield
    finally:
        _remembered.reset(token)
        if collects:
            gc.enable()


def remember(key: Hashable, find: Callable[[], T]) -> T:
    """The value of a key, found at the first time in a look; outside a look each time."""
    known = _remembered.get()
    if known is None:
        return find()
    if key not in known:
        known[key] = find()
    return cast("T", known[key])


def remember_of(subject: object, name: str, find: Callable[[], T]) -> T:
    """The same for a fact of an object that cannot be a key, such as a recipe: for this very object."""
    # The object is kept too, so that no other one gets its id.
    return remember((name, id(subject)), lambda: (subject, find()))[1]
