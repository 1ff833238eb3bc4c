"""The search for the largest micro-batch that fits, by trying: whether one does, a run tells.

tried = search([1, 2, 4, 8], 3, fits, up=False)        # {8: False, 4: True}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.store.records import DOES_NOT_FIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.errors import EkidenError


def search(
    sizes: Sequence[int],
    begin: int,
    fits: Callable[[int], bool],
    *,
    up: bool = True,
    tries: int | None = None,
) -> dict[int, bool]:
    """Try `sizes[begin]`, then smaller ones until one fits; with `up` larger ones if that one does.

    At most `tries` of them.
    """
    tried: dict[int, bool] = {}
    at, most = begin, len(sizes) if tries is None else tries
    while 0 <= at < len(sizes) and sizes[at] not in tried and len(tried) < most:
        tried[sizes[at]] = fits(sizes[at])
        if tried[sizes[at]] and not up:
            break
        at += 1 if tried[sizes[at]] else -1
    return tried


def out_of_memory(error: EkidenError) -> bool:
    """Whether a run ended because a rank, or its node, ran out of memory."""
    return DOES_NOT_FIT in str(error)
