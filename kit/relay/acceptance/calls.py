"""A function of a run, called in processes that are started as its ranks are, and awaited.

    call(run, cluster, Job("probe", probe.work, resources="training"), start)

All use of torch and GPUs is there: the process of the acceptance itself may be outside the container, and
would hold memory of the GPUs.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from kit.cluster import decisions, local_task
from kit.errors import DONE, ClusterError, JobFailed

if TYPE_CHECKING:
    from kit.cluster.jobs import Job
    from kit.cluster.processes import Processes
    from kit.cluster.supervisor import Start
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_POLL = 0.1
_SURVIVORS = 20.0  # seconds that ranks may outlive the first that failed


def call(run: Run, cluster: Cluster, job: Job, start: Start, ranks: int | None = None) -> None:
    """Call the work of a job on all ranks of a run that is laid out, or on `ranks` of them.

    Raises ClusterError for a user's mistake, JobFailed for any other failure.
    """
    run.mistake(job.name).unlink(missing_ok=True)
    local_task.announce(run, job)
    starter = start(run, cluster, lambda: False)
    try:
        number = cluster.training.ranks if ranks is None else ranks
        processes = starter.start(job.work.__module__, f"{job.name}-0", 0, number)
        try:
            code = _await(processes)
        finally:
            processes.signal(signal.SIGKILL)
    finally:
        starter.close()
    if code == DONE:
        return
    if mistake := decisions.mistake(run, job.name):
        raise ClusterError(f"{job.name}: {mistake}")
    raise JobFailed(f"{job.name}: exit code {code}; see {run.job_logs(job.name)}")


def _await(processes: Processes) -> int:
    """The exit code, once all have ended; those that wait for one that failed are killed."""
    failed: float | None = None
    while (code := processes.code()) is None:
        time.sleep(_POLL)
        if processes.failed():
            failed = failed or time.monotonic()
            if time.monotonic() > failed + _SURVIVORS:
                processes.signal(signal.SIGKILL)
    return code
