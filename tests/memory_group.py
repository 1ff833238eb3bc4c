"""A cgroup with a limit of memory, and a job in it: only pages that the job touches there count.

with memory_group.limited(300_000_000) as group:
    warm.training("tests.memory_group", str(group), "train", "rehearse", "demo")
"""

from __future__ import annotations

import os
import runpy
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def limited(size: int) -> Iterator[Path]:
    """A group of that many bytes, of version 1 or 2; skips the test where none can be made."""
    first = (_CGROUPS / "memory").is_dir()
    group = _CGROUPS / ("memory" if first else "") / f"ekiden-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(size))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield group
    finally:
        group.rmdir()


if __name__ == "__main__":
    _, group, job, *arguments = sys.argv
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    sys.argv[:] = [f"jobs.{job}", *arguments]
    runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)
