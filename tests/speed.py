"""How fast this machine is, and how much is asked of it: on a slow one the tests wait for longer.

Calibrated once a session; EKIDEN_TEST_SPEED=0.5 says that it is half as fast as the machine whose
seconds stand in the tests, one core of an AMD EPYC of 2021 (Zen 3, 2.45 GHz, AVX2).
"""

from __future__ import annotations

import functools
import os
import time

LONG = "EKIDEN_TEST_LONG" in os.environ  # make test-long: every case, not one of each kind
VARIABLE = "EKIDEN_TEST_SPEED"
_REFERENCE = 0.08  # seconds of `_work` on that core
_TIMES = 3


@functools.cache
def speed() -> float:
    """The speed of this machine, 1 for the one of the tests' seconds."""
    if given := os.environ.get(VARIABLE):
        return float(given)
    return _REFERENCE / min(_work() for _ in range(_TIMES))


def patience(seconds: float) -> float:
    """So many seconds of the tests' machine on this one; never fewer."""
    return seconds / min(1.0, speed())


def _work() -> float:
    """Seconds that some plain Python takes: most of what the tests wait for is that."""
    began = time.perf_counter()
    counts: dict[str, int] = {}
    for number in range(200_000):
        key = str(number % 5000)
        counts[key] = counts.get(key, 0) + number
    return time.perf_counter() - began
