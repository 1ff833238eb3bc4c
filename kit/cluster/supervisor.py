"""The local supervisor: a small slurmctld for one machine without Slurm.

It starts the tasks of a run's jobs, one job after the other, through the same entry points as
Slurm; enforces the training job's time limit and decides on requeues by the same rules; and, as a
drill, preempts the training job once if the cluster file has `preempt_at_step`. Started by `submit`,
it outlives the terminal. Its tasks do not outlive it.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.cluster import announced, decisions, lock, restart_rules, view
from kit.cluster.jobs import user_signal
from kit.cluster.local_array import LocalArray
from kit.cluster.oom_killer import OomKiller
from kit.cluster.processes import GRACE, Processes, Starter, Starting
from kit.cluster.state import JobState
from kit.config.cluster import Cluster
from kit.config.section import read_resolved
from kit.errors import ClusterError, EkidenError, Interrupted, JobFailed
from kit.output import quantities, streams
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from kit.cluster.announced import LocalJob
    from kit.cluster.oom_killer import OomKill
    from kit.store.paths import Run
    from kit.store.units import Tally

    Count = Callable[[str], Tally | None]
    Start = Callable[[Run, Cluster, Callable[[], bool]], Starting]

_POLL = 0.1
_LATE = 5.0  # seconds between two polls on a busy machine; after more this process was stopped
_SURVIVORS = 20  # seconds the ranks may outlive the first that failed
_UNITS = "running tasks are ended, finished units are kept"
_SAVED = f"the training saves its last full step and ends, within {GRACE} s"


def supervise(
    run: Run,
    say: Callable[[str], None],
    count: Count = lambda _: None,
    start: Start = Starter,
) -> dict[str, float]:
    """Run the announced jobs; returns the seconds that each took, by name.

    `count` returns the units of a job, given its name, when the job starts; None if it has none. `start`
    makes the object that starts tasks.

    Raises Interrupted after a SIGTERM, SIGINT or SIGHUP to the supervisor (training saves first),
    ClusterError after a user's mistake, JobFailed if a job fails for good.
    """
    cluster = read_resolved(run.cluster, Cluster)
    took: dict[str, float] = {}
    with lock.hold(run), _Stop() as stop, _starting(start, run, cluster, stop) as starter:
        for job in announced.local_jobs(run):
            began = time.monotonic()
            stop.effect = _SAVED if job["resources"] == "training" else _UNITS
            say(view.start_line(job["name"], len(job["tasks"])))
            with announced.on_record(run, job["name"]):
                if job["resources"] == "training":
                    _train(run, cluster, job, starter, stop, say)
                else:
                    with view.units(run, job["name"], count(job["name"])) as look:
                        array = LocalArray(run, cluster, job, starter, say)
                        failures = array.work(look, lambda: stop.asked)
                    if failures:
                        raise _verdict(run, job["name"], _of_several(failures))
            took[job["name"]] = time.monotonic() - began
            say(view.done_line(job["name"], took[job["name"]]))
    return took


@contextlib.contextmanager
def _starting(start: Start, run: Run, cluster: Cluster, stop: _Stop) -> Iterator[Starting]:
    starter = start(run, cluster, lambda: stop.asked)
    try:
        yield starter
    finally:
        starter.close()


@dataclass
class _Stop:
    """A signal to the supervisor itself to stop."""

    asked: bool = False
    effect: str = _UNITS  # for the line that it prints
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> _Stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self.asked:
            streams.say(f"stopping ({signal.Signals(number).name}): {self.effect}")
        self.asked = True


def _train(
    run: Run,
    cluster: Cluster,
    job: LocalJob,
    starter: Starting,
    stop: _Stop,
    say: Callable[[str], None],
) -> None:
    """Run the training job, attempt after attempt."""
    name = job["name"]
    drills = _drills(run, cluster)
    for restarts in itertools.count():
        ends = time.time() + cluster.training.minutes * 60
        limit = {"EKIDEN_END_TIME": str(int(ends)), "EKIDEN_STARTED": str(time.time())}
        ranks = cluster.training.ranks
        task = starter.start(job["module"], f"{name}-0", restarts, ranks, limit)
        drill = drills[0] if drills else None
        announced.record_end(run, name, ends)
        watch = Watch(run, name, task, ends, ends - cluster.training.warning_seconds, drill)
        try:
            slurm = watch.wait(stop, say)
        finally:
            task.signal(signal.SIGKILL)  # no process outlives its attempt
        drills = drills[1:] if watch.drilled else drills
        code = task.code()
        assert code is not None
        decision = restart_rules.decide_training(run, lambda: cluster, task.token, code, slurm)
        if stop.asked and decision.requeue:  # it was ended before it could handle the signal
            decision = decisions.Decision(False, decisions.CANCELLED)
        decisions.record(run, task.token, name, decision)
        if decision.reason == decisions.DONE:
            return
        if decision.requeue and slurm.oom is not None:
            say(f"{name}: {slurm.oom.who} {slurm.oom.text}")
        say(f"{name}: {decision.reason}{', requeued' if decision.requeue else ''}")
        decisions.publish_end(run, decision)
        if stop.asked:
            raise Interrupted(f"{name}: stopped and saved; the same command resumes it")
        if not decision.requeue:
            raise _verdict(run, name, decision.reason)


@dataclass(frozen=True)
class Drill:
    """An interruption on purpose: the signal that comes once the step is in the ledger."""

    step: int
    # SIGTERM: a preemption; SIGUSR2: a time limit; SIGKILL: a rank that dies
    signal: signal.Signals


def plan_drills(run: Run, drills: Sequence[Drill]) -> None:
    """Let the supervisor interrupt a run that has not begun, once by each drill, in order."""
    run.root.mkdir(parents=True, exist_ok=True)
    rows = [{"step": drill.step, "signal": drill.signal.name} for drill in drills]
    write_json(run.drills, rows)


def _drills(run: Run, cluster: Cluster) -> list[Drill]:
    """The drills that are left, as planned or by the cluster file."""
    if run.drills.is_file():
        rows = read_json(run.drills)
        return [Drill(row["step"], signal.Signals[row["signal"]]) for row in rows]
    done = any(row["reason"] == decisions.PREEMPTION for row in decisions.read(run))
    if cluster.preempt_at_step is None or done:
        return []
    return [Drill(cluster.preempt_at_step, signal.SIGTERM)]


@dataclass
class Watch:
    """One attempt of the training job, watched as slurmctld would."""

    run: Run
    name: str
    task: Processes
    ends: float  # Unix time of the time limit
    warns: float  # Unix time of its warning
    drill: Drill | None
    killer: OomKiller = field(default_factory=OomKiller)
    drilled: bool = False
    _terminated_at: float | None = None  # when TERM was sent; KILL follows after the grace time
    _warned: bool = False
    _failed_at: float | None = None
    _preempted: bool = False
    _killed_at_limit: bool = False
    _polled: float = field(default_factory=time.time)
    _stopped_for: float = 0.0  # seconds since the last poll at which all ran
    _oom: OomKill | None = None

    def wait(self, stop: _Stop, say: Callable[[str], None]) -> JobState:
        """Wait for the end of the attempt; returns the state that Slurm would show."""
        with (
            contextlib.closing(self.killer),
            view.TrainingView(self.run, self.task.log, self.task.log_begin, say) as training,
        ):
            while self.task.code() is None:
                time.sleep(_POLL)
                row = view.last_step(self.run)
                training.look(row)
                if self.drill is not None and row is not None and row["step"] >= self.drill.step:
                    self._interrupt(self.drill.signal, row["step"], say)
                if stop.asked:
                    self._terminate(user_signal(self.run))
                self.extend_limit(say)
                self._enforce_limit()
                self._note_failure()
                self._kill_stragglers()
            self._note_failure()
        if self._killed_at_limit:
            return JobState("COMPLETING", reason="TimeLimit")
        return JobState("RUNNING", preempted=self._preempted, oom=self._oom)

    def _interrupt(self, number: signal.Signals, step: int, say: Callable[[str], None]) -> None:
        """Carry out the drill."""
        self.drill, self.drilled = None, True
        if number == signal.SIGTERM:
            say(f"train: preempted at step {step:,}")
            self._preempted = True
            self._terminate()
            return
        say(f"train: {number.name} at step {step:,}, as a drill")
        if number == signal.SIGKILL:
            self.task.kill_one()
        else:
            self.task.signal(number)

    def _terminate(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, once: the ranks save and leave."""
        if self._terminated_at is None:
            self._terminated_at = time.monotonic()
            self.task.signal(number)

    def extend_limit(self, say: Callable[[str], None]) -> None:
        """Move the time limit by the time for which a rank, or this machine, was stopped, as Slurm does."""
        now, stopped = time.time(), self.task.stopped()
        gap, self._polled = now - self._polled, now
        if stopped or gap > _LATE:
            self._stopped_for += gap
        if self._stopped_for and not stopped:
            self.ends, self.warns = self.ends + self._stopped_for, self.warns + self._stopped_for
            announced.record_end(self.run, self.name, self.ends)
            length = quantities.duration(self._stopped_for)
            say(f"{self.name}: stopped for {length}; the time limit ends that much later")
            self._stopped_for = 0.0

    def _enforce_limit(self) -> None:
        """Send USR2 before the time limit, TERM when it is reached."""
        if self._stopped_for:
            return
        now = time.time()
        if now > self.warns and not self._warned:
            self._warned = True
            self.task.signal(signal.SIGUSR2)
        if now > self.ends and self._terminated_at is None:
            self._killed_at_limit = True
            self._terminate()

    def _note_failure(self) -> None:
        """Note the first rank that fails, before this process kills any itself."""
        self.killer.look()
        if self._failed_at is None and self.task.failed():
            self._failed_at = time.monotonic()
            ranks = {f"rank {rank}": one for rank, one in enumerate(self.task.processes)}
            self._oom = self.killer.first_killed(ranks)

    def _kill_stragglers(self) -> None:
        """Send KILL after the grace time, and to ranks that wait for a dead one."""
        now = time.monotonic()
        if self._terminated_at is not None and now > self._terminated_at + GRACE:
            self.task.signal(signal.SIGKILL)
        if self._failed_at is not None and now > self._failed_at + _SURVIVORS:
            self.task.signal(signal.SIGKILL)


def _of_several(failures: Sequence[str]) -> str:
    """The reason of the first task that failed, and the number of the others."""
    more = len(failures) - 1
    return failures[0] + (f", and {quantities.count(more, 'other task')} failed" if more else "")


def _verdict(run: Run, name: str, reason: str) -> EkidenError:
    """The error of a job that is neither done nor requeued."""
    if decisions.mistake(run, name):
        return ClusterError(f"{name}: {reason}")
    if reason.startswith(decisions.STOPPED):
        return Interrupted(f"{name}: {reason}; the same command resumes it")
    return JobFailed(f"{name}: {reason}; see {run.job_logs(name)}")
