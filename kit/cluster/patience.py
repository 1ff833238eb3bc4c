"""Patience with slurmctld: how often to ask it, and when to ask again if it is silent."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, TypeVar

from kit.errors import ClusterError
from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_TRIES, _PAUSE = 240, 15  # attempts and seconds: an hour of slurmctld not answering
# Seconds between two questions to squeue: a small job is over soon, a large one is not asked for often.
_FIRST, _GROWTH, _LONGEST = 2.0, 1.5, 60.0
# Words of Slurm, of a shell, and of wrappers at sites that keep commands from their nodes. Anything else,
# such as "Unable to contact slurm controller", may pass.
_REFUSALS = re.compile(
    r"not on the PATH|denied|disabled|not (?:allowed|permitted|supported|available|authorized)|forbidden|"
    r"[Ii]nvalid (?:user|job|operation)|already|is pending|not found|no longer",
)


def pauses(seconds: float = math.inf) -> Iterator[float]:
    """Rounds of a loop for some seconds: each is followed by a longer pause, whose length it is given."""
    deadline, pause = time.monotonic() + seconds, _FIRST
    while (left := deadline - time.monotonic()) > 0:
        pause = min(pause, left)
        yield pause
        time.sleep(pause)
        pause = min(_GROWTH * pause, _LONGEST)


def until_answered(request: Callable[[], T]) -> T:
    """Repeat a request of a job that ends until slurmctld answers: it may be busy, or restarting.

    Raises ClusterError if it refuses, or has not answered for an hour.
    """
    for _ in range(_TRIES):
        try:
            return request()
        except ClusterError as error:
            if is_refusal(error):
                raise
            log.warning(f"requeue: {error}; again in {_PAUSE} s")
            time.sleep(_PAUSE)
    return request()


def is_refusal(error: ClusterError) -> bool:
    """Whether asking again would not help."""
    return _REFUSALS.search(str(error)) is not None
