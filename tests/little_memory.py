"""A job in a process, and in those that it starts, that may take only so much more memory than it has.

python -m tests.little_memory BYTES train rehearse demo
"""

from __future__ import annotations

import ctypes
import resource
import runpy
import sys
from pathlib import Path

_ARENAS = -8  # M_ARENA_MAX of mallopt(3)

if __name__ == "__main__":
    ctypes.CDLL(None).mallopt(_ARENAS, 1)  # else each thread reserves up to 64 MB of addresses
    _, more, job, *arguments = sys.argv
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + int(more)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv[:] = [f"jobs.{job}", *arguments]
    runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)
