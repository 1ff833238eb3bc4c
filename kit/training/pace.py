"""The pace of a save beside training: its processor time is spread over the steps that it overlaps.

Where ranks fill all cores, a second that a writer takes from them is a second of a step. So a writer rests
until it has had at most `SHARE` of the time since it began; for `LONGEST` at most, and no longer once
somebody waits for the save.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHARE = 0.02  # of a core: a step with a save in flight shall take at most 1.05 of one without
LONGEST = 60.0  # seconds
_LOOK = 0.1  # seconds between two looks for a signal


class Pace:
    """The pace of one save of one rank. Any thread may call `hurry`, its writer the rest."""

    def __init__(
        self,
        urgent: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`urgent`: whether this rank has had a signal; `clock` gives seconds."""
        self._urgent, self._clock = urgent, clock
        self._hurry = threading.Event()
        self._began, self._worked = clock(), 0.0
        self.rested = 0.0  # seconds

    def begin(self) -> None:
        """Count from now, for the calling thread."""
        self._began, self._worked = self._clock(), time.thread_time()

    def hurry(self) -> None:
        """Rest no more."""
        self._hurry.set()

    @property
    def hurried(self) -> bool:
        """Whether the save runs at full speed."""
        return self._hurry.is_set() or self._urgent()

    def rest(self) -> None:
        """Rest as long as the work since `begin` demands."""
        worked = time.thread_time() - self._worked
        while not self.hurried:
            now = self._clock()
            if (left := pause(worked, now - self._began)) <= 0:
                break
            self._hurry.wait(min(left, _LOOK))
            self.rested += self._clock() - now


def pause(worked: float, passed: float) -> float:
    """Seconds to rest, after seconds of processor time within those that have passed."""
    return min(worked / SHARE, LONGEST) - passed
