"""The kernel's OOM killer on this machine: which processes it has killed, by what evidence.

    killer = OomKiller()                     # before the processes start
    found = killer.first_killed({"rank 0": process})

A process that SIGKILL ended was killed for its memory, certainly, if the kernel's log names it, or if the
count of kills rose in its own cgroup, such as that of a container or of a unit of systemd. `/proc/vmstat`
counts for the whole machine: that it rose is no more than a suspicion. A count is compared with that of ten
minutes ago at most: a run lasts for weeks, in which others are killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from kit.cluster import memory_groups
from kit.cluster.memory_groups import CGROUPS, PROC
from kit.output.quantities import size

if TYPE_CHECKING:
    from collections.abc import Mapping

_KMSG = Path("/dev/kmsg")
_ALL_PROCESSES = "pid:[4026531836]"  # of proc_ns.h: the namespace of the process ids in the log
_RECORD = 8192  # bytes of the longest in the log: PRINTK_MESSAGE_MAX
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
# Words of mm/oom_kill.c, Linux 4.18 to 6.18, for a cgroup's limit and for a machine's memory.
_KILLED = re.compile(r"\bKilled process (\d+) .*anon-rss:(\d+)kB")
_KILLED_BY = "killed by the kernel for lack of memory"
_KEPT = 300.0  # seconds after which a later count takes the place of an earlier one
_NO_LIMIT = 2.0**60


@dataclass(frozen=True)
class OomKill:
    """A process that was killed for its memory, or perhaps."""

    who: str  # rank 0
    how: str  # in the same words each time
    evidence: str = ""
    certain: bool = True

    @property
    def text(self) -> str:
        """How it was killed, and the evidence."""
        return f"{self.how}; {self.evidence}" if self.evidence else self.how


class _Process(Protocol):
    """A Popen, or a fork."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...


class OomKiller:
    """The kernel's log and counts of kills, from now on."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS, log: Path = _KMSG) -> None:
        own = memory_groups.counter_of_kills(proc, cgroups)
        self._certain, self._counter = own is not None, own or proc / "vmstat"
        self._limit = min(memory_groups.limits(proc, cgroups), default=None)
        self._log = _opened(log, proc)
        self._logged: dict[int, int] = {}  # bytes of processes that the log names
        self._earlier = self._later = self._count()
        self._due = time.monotonic() + _KEPT

    def look(self) -> None:
        """Count again if it is time; to be called often."""
        if time.monotonic() > self._due:
            self._earlier, self._later = max(self._earlier, self._later), self._count()
            self._due = time.monotonic() + _KEPT

    def first_killed(self, processes: Mapping[str, _Process]) -> OomKill | None:
        """The first of the processes, by name, that was killed for its memory; None if none was."""
        killed = {who: one.pid for who, one in processes.items() if one.poll() == -signal.SIGKILL}
        found = (self._by_log(killed) or self._by_count(killed)) if killed else None
        if found:
            self._earlier += 1  # so that it does not count for another process
        return found

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _by_log(self, killed: Mapping[str, int]) -> OomKill | None:
        self._read_log()
        for who, process in killed.items():
            if (had := self._logged.get(process)) is not None:
                evidence = f"the kernel's log: process {process} had {size(had)}"
                return OomKill(who, _KILLED_BY, evidence + self._of_limit())
        return None

    def _by_count(self, killed: Mapping[str, int]) -> OomKill | None:
        who, count = " or ".join(killed), self._count()
        if count <= self._earlier:
            return None
        evidence = f"oom_kill in {self._counter} rose from {self._earlier} to {count}"
        if self._certain:
            return OomKill(who, _KILLED_BY, evidence + self._of_limit())
        evidence += ", for some process of this machine"
        return OomKill(who, f"perhaps {_KILLED_BY}", evidence, certain=False)

    def _count(self) -> int:
        """The kills so far; 0 if the kernel does not tell, as before Linux 4.13."""
        with contextlib.suppress(OSError):
            found = _COUNT.search(self._counter.read_text(encoding="utf-8"))
            return int(found[1]) if found else 0
        return 0

    def _of_limit(self) -> str:
        if self._limit is None or self._limit.bytes > _NO_LIMIT:
            return ""
        return f"; {size(self._limit.bytes)} is {self._limit.source}"

    def _read_log(self) -> None:
        """Read on: a record each time, as in Documentation/ABI/testing/dev-kmsg of Linux."""
        while self._log is not None:
            try:
                record = self._log.read(_RECORD)
            except BrokenPipeError:  # some were overwritten: the next one follows
                continue
            if not record:
                return
            if found := _KILLED.search(record.decode(errors="replace")):
                self._logged[int(found[1])] = int(found[2]) * 1024


def _opened(log: Path, proc: Path) -> BinaryIO | None:
    """The kernel's log, at its end; None if this process may not read it, or has other ids in it."""
    with contextlib.suppress(OSError):
        if str((proc / "self/ns/pid").readlink()) == _ALL_PROCESSES:
            descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(descriptor, 0, os.SEEK_END)
            return os.fdopen(descriptor, "rb", buffering=0)
    return None
