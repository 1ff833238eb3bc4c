"""The state of a job where Slurm may not be asked from within it: by signals and the clock alone.

At the end of a grace time, at the time limit, and after an scancel the batch shell gets SIGTERM. While a
grace time runs only the ranks do.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.cluster.state import JobState
from kit.store import records

if TYPE_CHECKING:
    from kit.store.paths import Run

TERMINATED = "EKIDEN_TERMINATED"  # set by the batch shell once it got SIGTERM
_LATE = 60  # seconds: Slurm looks at limits every half minute
_BY_SIGTERM = 143  # exit code of a task


def state(run: Run, name: str, token: str, exit_code: int) -> JobState:
    """The state of the job whose start `token` ends."""
    end = os.environ.get("EKIDEN_END_TIME", "")
    left = float(end) - time.time() if end.isdecimal() else None
    if TERMINATED in os.environ:
        at_limit = left is not None and left < _LATE
        return JobState("COMPLETING", "TimeLimit" if at_limit else "None", seconds_left=left)
    if name == "train":
        by_signal = decisions.end_reason(run, token) in ("SIGTERM", records.WARNED)
    else:
        by_signal = exit_code == _BY_SIGTERM
    return JobState("RUNNING", preempted=by_signal, seconds_left=left)
