"""Ranks as steps of the Slurm job that this process belongs to, for a job that trains several times.

    supervisor.supervise(run, say, start=steps.Steps)

Each start of the ranks is an srun with the options of a training job of the cluster file, so that they are
placed, bound, put into a container and signalled as there. Slurm delivers the signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import jobs, launch, state
from kit.cluster import task as program
from kit.cluster.patience import until_answered
from kit.cluster.processes import Processes
from kit.errors import ClusterError
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_RESTARTS = "SLURM_RESTART_COUNT"
_NOT_THERE = "Invalid job id"  # scancel's words


class Steps:
    """Starts tasks as steps; see `Starting` in kit/cluster/processes.py."""

    def __init__(self, run: Run, cluster: Cluster, stopped: Callable[[], bool]) -> None:  # noqa: ARG002
        self._run, self._cluster = run, cluster

    def start(
        self,
        module: str,  # noqa: ARG002
        job_id: str,
        restarts: int,
        ranks: int = 1,
        more: Mapping[str, str] = {},
    ) -> Processes:
        """Start every rank of a task by one srun; `more` are additional environment variables."""
        name, number = job_id.rsplit("-", 1)
        folder = self._run.job_logs(name)
        log = folder / f"{job_id}_0_log.out"
        begin = log.stat().st_size if log.is_file() else 0
        announced = read_json(self._run.local_work(name))
        work = program.Work(announced["function"], announced["tasks"], [int(number)])
        words = [
            *_srun(self._cluster, ranks, folder / f"{job_id}_%t_log.out"),
            *launch.task_python(self._cluster),
            *("-u", "-m", program.MODULE, *work.words(self._run, name)),
        ]
        with (folder / "srun.out").open("ab") as said:
            srun = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # the supervisor passes on a Ctrl-C
                env={
                    **os.environ,
                    **launch.job_environment(self._run, self._cluster),
                    **more,
                    **_own(restarts),
                },
            )
        token = f"{state.own_id()}.{restarts}"
        return _Tasks(token, [_Step(srun)], log, begin, self._run)

    def close(self) -> None:
        """Nothing is left between two steps."""


def _srun(cluster: Cluster, ranks: int, log: Path) -> list[str]:
    """The call of srun for the ranks, on the first nodes of the job."""
    training = cluster.training
    nodes = min(training.nodes, ranks)
    # Else Slurm may choose another node of the job, where no rank could be ended by its number.
    here = [f"--nodelist={os.environ['SLURMD_NODENAME']}"] if nodes == 1 else []
    placed = [f"--nodes={nodes}", f"--ntasks={ranks}", f"--ntasks-per-node={ranks // nodes}", *here]
    logged = ["--unbuffered", "--open-mode=append", f"--output={log}"]
    return [
        "srun",
        *placed,
        *logged,
        *launch.srun_words(cluster, "training", training.cpus_per_rank),
    ]


def _own(restarts: int) -> dict[str, str]:
    """Variables that tell starts apart (`jobs.token`), and keep them from asking when the job ends."""
    return {_RESTARTS: str(restarts), jobs.RESOURCES: "steps"}


@dataclass
class _Tasks(Processes):
    """The tasks of a step, whose only process here is its srun."""

    run: Run

    def kill_one(self) -> None:
        """Let the last of the tasks on this node die, as of a fault."""
        if ranks := _ranks_here(self.run):
            os.kill(max(ranks), signal.SIGKILL)


@dataclass
class _Step:
    """The srun of a step; has the methods of Popen that are needed, and reaches its tasks."""

    srun: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id of srun."""
        return self.srun.pid

    def poll(self) -> int | None:
        """The highest exit code of the tasks once all have ended, else None."""
        return self.srun.poll()

    def send_signal(self, number: int) -> None:
        """Let Slurm send a signal to all tasks; SIGKILL ends the step."""
        if self.poll() is not None:
            return
        step = until_answered(_running_step)
        if step is None:  # not started yet
            self.srun.terminate()
            return
        named = [] if number == signal.SIGKILL else [f"--signal={signal.Signals(number).name}"]
        try:
            until_answered(lambda: state.slurm("scancel", *named, step))
        except ClusterError as error:
            # Of a node of the job where the step is not; or it has just ended.
            if _NOT_THERE not in str(error):
                raise


def _running_step() -> str | None:
    """The id of the step that this job is running, besides the batch script; None if there is none."""
    job = state.own_id()
    shown = state.slurm("squeue", "--steps", "--noheader", f"--jobs={job}", "--format=%i")
    steps = [step for step in shown.split() if step.rpartition(".")[2].isdecimal()]
    return max(steps, key=lambda step: int(step.rpartition(".")[2]), default=None)


def _ranks_here(run: Run) -> list[int]:
    """The process ids of the tasks of a run on this node."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        if program.MODULE in words and str(run.root) in words and Path(words[0]).name != "srun":
            found.append(int(path.name))
    return found
