"""The clock of this machine against that of the file server, by the time of a fresh file.

All nodes write to one server, so that nodes whose clocks agree with it agree with one another. Ranks know
the end of their time limit as a time of slurmctld's clock; `status` and `watch` compare times of files.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from kit.cluster.preflight.disk import nearest
from kit.cluster.preflight.finding import Finding, warning
from kit.output.quantities import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.cluster.preflight.finding import Site

_GRAIN = (
    0.05  # seconds: a kernel stamps files by a clock that ticks a hundred times a second or more
)


def clock(site: Site, now: Callable[[], float] = time.time) -> Finding:
    """Compare the clocks; `now` is this machine's, in Unix seconds."""
    path = nearest(site) / f".check-{uuid.uuid4().hex[:12]}"
    before = now()
    try:
        path.write_bytes(b"x")
        after, stamp = now(), path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)
    ahead = _distance(before - _GRAIN, stamp, after)
    found = f"{duration(abs(ahead))} {'behind' if ahead < 0 else 'ahead of'} the file server"
    if not ahead:
        return Finding("clock", "ok", "agrees with the file server")
    remedy = "synchronise the clocks (chrony or ntpd on each node)"
    if abs(ahead) > site.cluster.training.warning_seconds:
        remedy += "; attempts would miss the end of their time limit"
        return Finding("clock", "bad", found, remedy)
    if abs(ahead) > site.cluster.checks.clock_seconds:
        return warning("clock", found, remedy)
    return Finding("clock", "ok", found)


def _distance(before: float, stamp: float, after: float) -> float:
    """How far the interval is ahead of a stamp; 0 if the stamp lies in it."""
    return min(0.0, after - stamp) if stamp > after else max(0.0, before - stamp)
