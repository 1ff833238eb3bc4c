"""The local supervisor: what slurmctld does, for one machine without Slurm.

It starts the tasks of a run's jobs, one job after the other, through the same entry points as
Slurm; keeps the training job's time limit and decides over requeues by the same rules; and, as a
drill, preempts the training job once where the cluster file says `preempt_at_step`. Started by
`submit` it outlives the terminal. Its tasks do not outlive it.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.cluster import announced, decisions, lock, view
from kit.cluster.processes import GRACE, Processes, Starter
from kit.cluster.state import JobState
from kit.config.cluster import Cluster
from kit.config.section import read_resolved
from kit.errors import DONE, ClusterError, EkidenError, Interrupted, JobFailed
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from kit.store.paths import Run
    from kit.store.units import Tally

    Count = Callable[[str], Tally | None]

_POLL = 0.1
_SURVIVORS = 20  # seconds the ranks may outlive the first that failed
_UNITS = "the tasks at work are ended, the units that are done are kept"
_SAVED = f"the training saves its last full step and ends, in {GRACE} s at the most"


def supervise(
    run: Run, say: Callable[[str], None], count: Count = lambda _: None
) -> dict[str, float]:
    """Do what was written down, to the end; returns the seconds that each job took.

    `count` gives the units of a job, by its name, at the moment when it starts; None: it has none.
    Raises Interrupted after a SIGTERM or SIGINT to the supervisor (training is saved first),
    ClusterError after a mistake of the user's, JobFailed where a job fails for good.
    """
    cluster = read_resolved(run.cluster, Cluster)
    took: dict[str, float] = {}
    with lock.hold(run), _Stop() as stop, _starter(run, cluster, stop) as starter:
        for job in read_json(run.jobs)["local"]:
            began = time.monotonic()
            stop.keeps = _SAVED if job["resources"] == "training" else _UNITS
            say(view.started(job["name"], len(job["tasks"])))
            with announced.on_record(run, job["name"]):
                if job["resources"] == "training":
                    _train(run, cluster, job, starter, stop, say)
                else:
                    with view.units(run, job["name"], count(job["name"])) as look:
                        _array(run, cluster, job, starter, stop, say, look)
            took[job["name"]] = time.monotonic() - began
            say(view.done(job["name"], took[job["name"]]))
    return took


@contextmanager
def _starter(run: Run, cluster: Cluster, stop: _Stop) -> Iterator[Starter]:
    starter = Starter(run, cluster, lambda: stop.asked)
    try:
        yield starter
    finally:
        starter.close()


@dataclass
class _Stop:
    """Whether the supervisor itself was told to stop."""

    asked: bool = False
    keeps: str = _UNITS  # what is ended and what is kept
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> _Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self.asked:  # by the system call: the signal may have come within a print
            os.write(2, f"stopping ({signal.Signals(number).name}): {self.keeps}\n".encode())
        self.asked = True


def _array(
    run: Run,
    cluster: Cluster,
    job: dict[str, Any],
    starter: Starter,
    stop: _Stop,
    say: Callable[[str], None],
    look: Callable[[], None],
) -> None:
    """Run an array job, `arrays.parallel` tasks at a time, failed ones again."""
    name = job["name"]
    waiting = [(task, 0) for task in job["tasks"]]
    running: list[tuple[int, int, Processes]] = []
    try:
        while waiting or running:
            while waiting and len(running) < cluster.arrays.parallel:
                task, restarts = waiting.pop(0)
                started = starter.start(job["module"], f"{name}-{task}", restarts)
                running.append((task, restarts, started))
            time.sleep(_POLL)
            look()
            if stop.asked:
                raise Interrupted(f"{name}: stopped; run or submit it again to go on")
            for entry in list(running):
                task, restarts, process = entry
                code = process.code()
                if code is None:
                    continue
                running.remove(entry)
                if code != DONE:
                    _decide(run, cluster, name, process.token, code, say)
                    waiting.append((task, restarts + 1))
    finally:
        for _, _, process in running:
            process.end()


def _train(
    run: Run,
    cluster: Cluster,
    job: dict[str, Any],
    starter: Starter,
    stop: _Stop,
    say: Callable[[str], None],
) -> None:
    """Run the training job, attempt after attempt."""
    name = job["name"]
    drill = cluster.preempt_at_step
    if any(row["reason"] == "preemption" for row in decisions.recorded(run)):
        drill = None  # it has been
    for restarts in itertools.count():
        ends = time.time() + cluster.training.minutes * 60
        limit = {"EKIDEN_END_TIME": str(int(ends))}
        ranks = cluster.training.ranks
        task = starter.start(job["module"], f"{name}-0", restarts, ranks, limit)
        watch = _Watch(run, task, ends, ends - cluster.training.warning_seconds, drill)
        try:
            slurm = watch.until_the_end(stop, say)
        finally:
            task.signal(signal.SIGKILL)  # of an attempt that has ended nobody is left
        drill = None if slurm.preempted else drill
        code = task.code()
        assert code is not None
        decision = decisions.decide_training(run, lambda: cluster, task.token, code, slurm)
        decisions.record(run, task.token, name, decision)
        if decision.reason == "done":
            return
        say(f"{name}: {decision.reason}{', requeued' if decision.requeue else ''}")
        decisions.show_end(run, decision)
        if stop.asked:
            raise Interrupted(f"{name}: stopped and saved; run or submit it again to go on")
        if not decision.requeue:
            raise _verdict(run, name, decision.reason)


@dataclass
class _Watch:
    """One attempt of the training job, watched over as slurmctld does."""

    run: Run
    task: Processes
    ends: float  # Unix time of the time limit
    warns: float  # Unix time of its warning
    drill: int | None  # the step at which to preempt
    _told_at: float | None = None  # since TERM; KILL comes after the grace
    _warned: bool = False
    _failed_at: float | None = None
    _preempted: bool = False
    _killed_at_limit: bool = False

    def until_the_end(self, stop: _Stop, say: Callable[[str], None]) -> JobState:
        """Wait for the end of the attempt; returns what Slurm would say of the job."""
        with view.TrainingView(self.run, self.task.log, self.task.log_begin, say) as training:
            while self.task.code() is None:
                time.sleep(_POLL)
                row = view.last_step(self.run)
                training.look(row)
                if self.drill is not None and row.get("step", 0) >= self.drill:
                    say(f"train: preempted at step {row['step']:,}")
                    self.drill, self._preempted = None, True
                    self._tell()
                if stop.asked:
                    self._tell()
                self._keep_the_limit()
                self._end_the_rest()
        if self._killed_at_limit:
            return JobState("COMPLETING", reason="TimeLimit")
        return JobState("RUNNING", preempted=self._preempted)

    def _tell(self) -> None:
        """TERM, once: the ranks save and leave."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            self.task.signal(signal.SIGTERM)

    def _keep_the_limit(self) -> None:
        """USR2 before the time limit, TERM at it."""
        now = time.time()
        if now > self.warns and not self._warned:
            self._warned = True
            self.task.signal(signal.SIGUSR2)
        if now > self.ends and self._told_at is None:
            self._killed_at_limit = True
            self._tell()

    def _end_the_rest(self) -> None:
        """KILL after the grace, and of ranks that wait for one that is dead."""
        now = time.monotonic()
        if self._told_at is not None and now > self._told_at + GRACE:
            self.task.signal(signal.SIGKILL)
        if self.task.failed():
            self._failed_at = self._failed_at or now
            if now > self._failed_at + _SURVIVORS:
                self.task.signal(signal.SIGKILL)


def _decide(
    run: Run, cluster: Cluster, name: str, token: str, code: int, say: Callable[[str], None]
) -> None:
    """A task has failed: on record; raises its verdict where it is not to be tried again."""
    decision = decisions.decide_task(run, lambda: cluster, name, token, code, JobState("RUNNING"))
    decisions.record(run, token, name, decision)
    if not decision.requeue:
        raise _verdict(run, name, decision.reason)
    say(f"{token.rsplit('-', 1)[0]}: {decision.reason}, again")


def _verdict(run: Run, name: str, reason: str) -> EkidenError:
    """What a job ends with that is neither done nor requeued."""
    if decisions.mistake(run, name):
        return ClusterError(f"{name}: {reason}")
    if reason.startswith(decisions.STOPPED):
        return Interrupted(f"{name}: {reason}; run or submit it again to go on")
    return JobFailed(f"{name}: {reason}; see {run.job_logs(name)}")
