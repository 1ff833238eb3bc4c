"""Whether a preemption ended a job, or a scancel within the grace time of the preemption.

Observed on Slurm 22.05, where both leave PreemptTime and the state COMPLETING: EndTime is the moment at
which the job was told to end. At the end of the grace time that is PreemptTime + GraceTime or later, and a
scancel came before. If Slurm preempts by QOS, the grace time is that of a QOS, and only the accounting
tells. What neither tells counts as a preemption: a job requeued by mistake can be cancelled again, a run
that stopped by mistake may stay unnoticed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.cluster import state
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRIES, _PAUSE = 3, 1.0  # attempts and seconds: slurmdbd learns of an end a moment after it
_NONE = ("None", "Unknown")


def ended(fields: Mapping[str, str]) -> bool:
    """Whether a preemption of the job has begun and no scancel came; fields of `scontrol show job`."""
    if fields.get("PreemptTime", "None") in _NONE:
        return False
    if fields["JobState"] == "RUNNING":  # within the grace time
        return True
    try:
        if state.configuration().get("PreemptType") == "preempt/qos":
            return not _cancelled(fields["JobId"])
        grace = state.partitions()[fields["Partition"]]["GraceTime"]
        return not within_grace(fields, float(grace))
    except (ClusterError, KeyError, ValueError):
        return True


def within_grace(fields: Mapping[str, str], grace: float) -> bool:
    """Whether a job was told to end within `grace` seconds of the begin of its preemption."""
    began, told = (state.unix(fields.get(name, "")) for name in ("PreemptTime", "EndTime"))
    return began is not None and told is not None and told < began + grace


def _cancelled(job: str) -> bool:
    """Whether the accounting says that a user cancelled a job."""
    for number in range(_TRIES):
        if number:
            time.sleep(_PAUSE)
        status = state.slurm("sacct", "-X", "--noheader", "--format=State%30", f"--jobs={job}")
        words = status.split()
        if words and words[0] not in ("RUNNING", "COMPLETING"):
            return words[0] == "CANCELLED"
    return False
