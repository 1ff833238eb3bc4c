"""Requests to Slurm by a job that ends: repeated while slurmctld is silent, but not once it refuses."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeVar

from kit.errors import ClusterError
from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_TRIES, _PAUSE = 240, 15  # attempts and seconds: an hour of slurmctld not answering
# Words of Slurm, of a shell, and of wrappers at sites that keep commands from their nodes. Anything else,
# such as "Unable to contact slurm controller", may pass.
_REFUSALS = re.compile(
    r"not on the PATH|denied|disabled|not (?:allowed|permitted|supported|available|authorized)|forbidden|"
    r"[Ii]nvalid (?:user|job|operation)|already|is pending|not found|no longer",
)


def until_answered(request: Callable[[], T]) -> T:
    """Repeat a request until slurmctld answers: it may be busy, or restarting.

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
