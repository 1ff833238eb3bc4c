"""A machine without Slurm as a scheduler: a supervisor takes the place of slurmctld.

    python -m kit.cluster.local RUN

The interface is in kit/cluster/scheduler.py, the work of the supervisor in kit/cluster/supervisor.py.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import lock
from kit.cluster.arrays import Fit
from kit.cluster.jobs import Alive, Sent, clear_previous_outcome
from kit.cluster.state import PATIENCE, JobState
from kit.errors import DONE, EkidenError, RunError
from kit.output import log, streams
from kit.store.files import write_text
from kit.store.job_tokens import job_of
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.jobs import Ended, Job, Verb
    from kit.cluster.state import Element
    from kit.config.cluster import Cluster


def check(cluster: Cluster) -> None:
    """Nothing to check: this machine is always available."""


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:  # noqa: ARG001
    """Nothing: only the cluster file has limits."""
    return iter(())


def fitted(cluster: Cluster, jobs: Sequence[Job]) -> Fit:  # noqa: ARG001
    """The same jobs: only the cluster file has limits."""
    return Fit(jobs, {})


def submit(
    run: Run,
    cluster: Cluster,
    jobs: Sequence[Job],
    lay_out: Callable[[], object],
    behind: Sequence[Alive] = (),
) -> Sent:
    """Start a supervisor in the background that runs the jobs one after the other.

    Raises RunError while another one is running: it takes no more jobs.
    """
    for one in behind:
        raise RunError(
            f"{run.root}: {one.who} is running {' and '.join(one.stages) or 'this run'}, and takes no more "
            f"stages; submit again when it has ended, or {one.remedy}"
        )
    prepare(run, cluster, jobs, lay_out)
    return Sent({}, _start(run), run.supervisor_log)


def scripts(
    run: Run,  # noqa: ARG001
    cluster: Cluster,  # noqa: ARG001
    jobs: Sequence[Job],  # noqa: ARG001
    behind: Sequence[Alive] = (),  # noqa: ARG001
) -> dict[str, str]:
    """Nothing: the supervisor needs no scripts."""
    return {}


def prepare(
    run: Run,
    cluster: Cluster,
    jobs: Sequence[Job],
    lay_out: Callable[[], object],
    verb: Verb = "submit",
) -> None:
    """Write the supervisor's jobs into the run directory. Raises RunError while another one is running."""
    from kit.cluster import announced, local_task

    with lock.hold(run):
        lay_out()
        clear_previous_outcome(run, jobs)
        for job in jobs:
            local_task.announce(run, job)
        announced.announce(run, cluster, jobs, verb)


def _start(run: Run) -> int:
    """Start the supervisor, detached from the terminal; returns its process id."""
    run.submissions.mkdir(parents=True, exist_ok=True)
    with run.supervisor_log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "kit.cluster.local", str(run.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"},
        )
    if process.poll() is None:  # it takes the run's lock as soon as Python has started
        write_text(run.supervisor, str(process.pid))
    return process.pid


def ensure_idle(run: Run) -> None:
    """Raise RunError while a process of this machine works on a run."""
    if run.root.is_dir():
        lock.ensure_idle(run)


def alive(run: Run) -> list[Alive]:
    """The supervisor, or another process of this machine that works on a run."""
    from kit.cluster import announced

    if not (run.root.is_dir() and lock.is_held(run)):
        return []
    process = run.supervisor.read_text(encoding="utf-8") if run.supervisor.is_file() else "?"
    stages = tuple(announced.stages_left(run))
    words = "the local supervisor"
    failed = announced.failed_tasks(run)
    who, remedy = f"process {process}", f"kill {process}"
    return [Alive(process, who, words, remedy, "running", stages, failed=failed)]


def queue(
    runs: Sequence[Run],  # noqa: ARG001
    patience: float = PATIENCE,  # noqa: ARG001
) -> Mapping[str, Sequence[Element]]:
    """Nothing: all jobs are one process."""
    return {}


def cancel(jobs: Sequence[str]) -> None:
    """Send SIGTERM to supervisors, by process id: training saves first."""
    for job in jobs:
        os.kill(int(job), signal.SIGTERM)


def end(
    run: Run,
    names: Sequence[str],
    behind: Sequence[str],  # noqa: ARG001  one process for all
    say: Callable[[str], None],
) -> list[Ended]:
    """End the process that runs the jobs: see kit/cluster/local_cancel.py."""
    from kit.cluster import local_cancel

    return local_cancel.end(run, names, say, is_starting)


def is_starting(process: str) -> bool:
    """Whether it is a supervisor that has not locked its run yet."""
    try:
        return __name__.encode() in (Path("/proc") / process / "cmdline").read_bytes()
    except OSError:
        return False


def own_id() -> str:
    """The id of the task this process belongs to, NAME-TASK-SUPERVISOR."""
    return job_of(os.environ["EKIDEN_LOCAL_JOB"])


def own_nodes() -> list[str]:
    """This machine."""
    return [socket.gethostname()]


def state(job: str) -> JobState:  # noqa: ARG001
    """Always RUNNING: a task leaves on its own; its supervisor knows any other cause."""
    return JobState("RUNNING")


def requeue(job: str) -> None:
    """Nothing to do: the supervisor that decides also restarts the task."""


def note(job: str, text: str) -> None:
    """Nothing to do: a task of this machine has no comment."""


def exclude(job: str, failures: Mapping[str, int], needed: int) -> list[str]:  # noqa: ARG001
    """Exclude nothing: there is no other machine."""
    return []


def main(run_root: str) -> int:
    """The background supervisor; it logs to logs/supervisor.log."""
    from kit.cluster import supervisor

    with streams.spared():
        try:
            supervisor.supervise(Run(Path(run_root)), log.info)
        except EkidenError as error:
            log.error(f"error: {error}")
            return error.exit_code
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
