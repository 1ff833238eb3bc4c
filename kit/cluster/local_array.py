"""An array job on this machine: its tasks run in parallel, and each that fails is retried.

    failures = LocalArray(run, cluster, job, starter, say).work(look, stopped)

As on Slurm, a task that has failed for good ends no other one: all run to their end, and then the job has
failed. Meanwhile `jobs.json` counts the tasks for `status`.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from kit.cluster import announced, decisions, processes, restart_rules
from kit.cluster.oom_killer import OomKiller
from kit.cluster.state import JobState
from kit.errors import DONE, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.cluster.announced import LocalJob
    from kit.cluster.processes import Processes, Starting
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_POLL = 0.1
_EVERY = 1.0  # seconds between two records of the counts, at least


class _Task(NamedTuple):
    number: int
    restarts: int = 0


class LocalArray:
    """The tasks of a job: those that wait, those that run, and the reasons of those that failed."""

    def __init__(
        self,
        run: Run,
        cluster: Cluster,
        job: LocalJob,
        starter: Starting,
        say: Callable[[str], None],
    ) -> None:
        self._run, self._cluster, self._job = run, cluster, job
        self._starter, self._say = starter, say
        self._waiting = deque(_Task(number) for number in job["tasks"])
        self._running: list[tuple[_Task, Processes]] = []
        self._failures: list[str] = []
        self._killer = OomKiller()
        self._counts, self._due = (-1, -1), 0.0  # as recorded, and when they may be again

    def work(self, look: Callable[[], None], stopped: Callable[[], bool]) -> list[str]:
        """Run all tasks, `arrays.parallel` at a time; returns why those failed that are not done.

        `look` is called often. Raises Interrupted once `stopped`, after the tasks have ended.
        """
        try:
            while self._waiting or self._running:
                self._start()
                self._record()
                time.sleep(_POLL)
                look()
                self._killer.look()
                if stopped():
                    name = self._job["name"]
                    raise Interrupted(f"{name}: stopped; the same command resumes it")
                self._collect()
        finally:
            processes.end([process for _, process in self._running])
            self._killer.close()
        return self._failures

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._cluster.arrays.parallel:
            task = self._waiting.popleft()
            job_id = f"{self._job['name']}-{task.number}"
            process = self._starter.start(self._job["module"], job_id, task.restarts)
            self._running.append((task, process))

    def _record(self) -> None:
        """Count the tasks in `jobs.json`."""
        counts, now = (len(self._running), len(self._waiting)), time.monotonic()
        if counts != self._counts and now >= self._due:
            announced.record_tasks(self._run, self._job["name"], *counts)
            self._counts, self._due = counts, now + _EVERY

    def _collect(self) -> None:
        """Decide on the tasks that have ended."""
        for entry in [*self._running]:
            task, process = entry
            if (code := process.code()) is not None:
                self._running.remove(entry)
                if code != DONE:
                    self._decide(task, process, code)

    def _decide(self, task: _Task, process: Processes, code: int) -> None:
        """Record the decision on a failed task: it waits for another start, or has failed for good."""
        name = self._job["name"]
        oom = self._killer.first_killed({"the task": process.processes[0]})
        state = JobState("RUNNING", oom=oom)
        decision = restart_rules.decide_task(
            self._run, lambda: self._cluster, name, process.token, code, state
        )
        decisions.record(self._run, process.token, name, decision)
        if decision.requeue:
            self._waiting.append(_Task(task.number, task.restarts + 1))
            if oom is not None:
                self._say(f"{name}-{task.number}: {oom.text}")
            self._say(f"{name}-{task.number}: {decision.reason}, retrying")
            return
        self._failures.append(decision.reason)
        if self._waiting or self._running:
            self._say(f"{name}-{task.number}: {decision.reason}; the other tasks go on")
