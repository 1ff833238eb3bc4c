"""Arrays on this machine: tasks in parallel, each retried by itself, and told while they run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from kit.cluster import announced, decisions, local, local_task, lock
from kit.cluster.jobs import Job
from kit.cluster.local_array import LocalArray
from kit.cluster.oom_killer import OomKiller
from kit.cluster.processes import Starter
from kit.cluster.snapshot import snapshot
from kit.errors import Interrupted
from kit.relay import job_status, resolve
from kit.run import directory
from tests.conftest import ROOT

from . import array_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.relay.job_status import JobStatus
    from kit.store.paths import Run
    from tests.conftest import Workdir

TASKS = 5


class Array:
    """An array of tasks that is begun by this process, as by a supervisor."""

    def __init__(self, workdir: Workdir, work: Callable[[Run, int, int], None], tasks: int) -> None:
        project = resolve.load(workdir.recipe_file, ["cluster.arrays.parallel=2"], "local")
        self.run, self.said = directory.prepare(project), list[str]()
        # The tasks' module is in the checkout, and not in the code of the run.
        paths = {"environment": {"PYTHONPATH": f"{self.run.code}:{ROOT}"}}
        self._cluster = project.cluster.model_copy(update=paths)
        job = Job("probe", work, tasks=tasks)
        local_task.announce(self.run, job)
        announced.announce(self.run, self._cluster, [job])
        announced.record_start(self.run, "probe")
        self.starter = Starter(self.run, self._cluster, lambda: False)

    def work(self, look: Callable[[], None], stopped: Callable[[], bool]) -> list[str]:
        (job,) = announced.local_jobs(self.run)
        array = LocalArray(self.run, self._cluster, job, self.starter, self.said.append)
        with lock.hold(self.run):
            return array.work(look, stopped)

    def status(self) -> JobStatus:
        found = job_status.of_stage(job_status.read(snapshot(self.run)), "probe")
        assert found is not None
        return found


@pytest.fixture
def begin(workdir: Workdir) -> Iterator[Callable[..., Array]]:
    made: list[Array] = []

    def begun(work: Callable[[Run, int, int], None], tasks: int) -> Array:
        made.append(Array(workdir, work, tasks))
        return made[-1]

    yield begun
    for array in made:
        array.starter.close()


def test_a_task_that_fails_for_good_ends_no_other_and_restarts_none(
    begin: Callable[..., Array],
) -> None:
    array = begin(array_tasks.work, TASKS)
    seen: list[JobStatus] = []

    def look() -> None:
        seen.append(array.status())
        if "failed" in (seen[-1].reason or ""):  # the others are finished only now
            (array.run.root / "go").touch()

    failures = array.work(look, lambda: False)

    assert failures == ["failed 3 times (exit code 1)"]
    starts = [len(array_tasks.starts(array.run, task)) for task in range(TASKS)]
    assert starts == [3, 2, 1, 1, 1]
    assert {status.state for status in seen} == {"running"}
    assert (seen[0].running, seen[0].reason) == (2, "tasks that are queued: 3")
    assert max(status.running for status in seen) == 2
    # Before it, perhaps, the count of queued tasks: up to a second old.
    assert str(seen[-1].reason).endswith("a task has failed: failed 3 times (exit code 1)")
    assert "probe-0: failed 3 times (exit code 1); the other tasks go on" in array.said
    assert "probe-1: failed (exit code 1), retrying" in array.said

    ended = array.status()
    assert (ended.state, ended.reason) == ("failed", failures[0])
    assert ended.log == array.run.job_logs("probe") / "probe-0_0_log.out"
    with lock.hold(array.run):
        (alive,) = local.alive(array.run)
    assert alive.failed == ["probe-0"]


def test_a_task_that_is_killed_for_its_memory_says_so(
    begin: Callable[..., Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = begin(array_tasks.killed_for_memory, 1)
    group = array.run.root / "group"
    (group / "self").mkdir(parents=True)
    (group / "self/cgroup").write_text("0::/\n")
    (group / "memory.events.local").write_text("oom_kill 0\n")
    killer = partial(OomKiller, group, group, group / "none")
    monkeypatch.setattr("kit.cluster.local_array.OomKiller", killer)

    assert array.work(lambda: None, lambda: False) == [
        "failed 3 times (exit code 137)"
    ]  # once counted
    what = "killed by the kernel for lack of memory"
    assert f"probe-0: failed ({what}), retrying" in array.said
    counted = f"oom_kill in {group}/memory.events.local rose from 0 to 1"
    assert f"probe-0: {what}; {counted}" in array.said


def test_an_array_that_is_stopped_signals_all_its_tasks_at_once(
    begin: Callable[..., Array],
) -> None:
    array = begin(array_tasks.ends_together, 2)

    def started() -> bool:
        return len([*array.run.root.glob("start-*")]) == 2

    with pytest.raises(Interrupted, match="probe: stopped"):
        array.work(lambda: None, started)
    assert len([*array.run.root.glob("signalled-*")]) == 2
    assert not [*array.run.root.glob("alone-*")]
    assert decisions.read(array.run) == []  # to be resumed
