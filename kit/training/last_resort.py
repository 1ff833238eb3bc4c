"""Kills a rank whose interpreter is stuck, so that its own watchdog cannot run: a process beside it.

    python -I -S last_resort.py PID      # seconds on its standard input, as doubles

A timer within the rank would run on while the rank is suspended, and kill it when it is resumed. This
process is suspended together with its rank, and counts only seconds in which both ran. The rank sends how
many seconds it is still allowed; silence for that long ends it, after the stacks of all its threads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

_SPARE = 60.0  # seconds beyond those allowed: the rank's own watchdog comes first
_TICK = 1.0
_STACKS = 3.0  # seconds to write the stacks
_SECONDS = struct.Struct("d")
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class LastResort:
    """The process beside this rank. From now on SIGUSR1 makes the rank print its stacks."""

    def __init__(self) -> None:
        import faulthandler
        import subprocess

        faulthandler.register(signal.SIGUSR1, all_threads=True)
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # no process to be had: the rank's watchdog is enough
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(os.getpid())],
                stdin=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)

    def allow(self, seconds: float) -> None:
        """Allow the rank another `seconds` of silence, and some to spare."""
        if self._process is not None and self._process.stdin is not None:
            # It has died, or is stopped and its pipe is full, or has just been closed.
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(_SECONDS.pack(seconds + _SPARE))

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.send_signal(signal.SIGCONT)  # stopped, it would not see that
            self._process.wait()


def main(rank: int) -> None:
    """Guard the process `rank` until it closes the pipe or dies."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    left = float("inf")
    while left > 0:
        began = time.monotonic()
        if select.select([0], [], [], _TICK)[0]:
            sent = os.read(0, 4096 * _SECONDS.size)
            if not sent:
                return
            (left,) = _SECONDS.unpack(sent[-_SECONDS.size :])
        elif not _is_stopped(rank):
            left -= min(time.monotonic() - began, 2 * _TICK)
    _end(rank)


def _is_stopped(process: int) -> bool:
    """Whether a process is stopped, by a signal or a debugger: state T or t in proc(5)."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as stat:  # noqa: PTH123  quick to import
            return stat.read().rsplit(") ", 1)[1][0] in "Tt"
    except OSError:
        return False


def _end(rank: int) -> None:
    print(f"process {rank} has not responded; the stacks of all threads follow", file=sys.stderr)
    sys.stderr.flush()
    with contextlib.suppress(ProcessLookupError):
        os.kill(rank, signal.SIGUSR1)
        time.sleep(_STACKS)
        os.kill(rank, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
