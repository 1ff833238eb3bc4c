"""Tasks forked from one process: each as it would be by itself, and the imports done once."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import local_task
from kit.cluster.jobs import Job
from kit.cluster.processes import Processes, Starter
from kit.errors import DONE, Interrupted
from kit.run import directory
from tests.conftest import ROOT
from tests.relay import wait_until

from . import forked

if TYPE_CHECKING:
    from kit.config.run import Project
    from kit.store.paths import Run
    from tests.conftest import Workdir

JOB = Job("probe", forked.work, tasks=3)


class Supervisor:
    """As much of a supervisor as starts tasks."""

    def __init__(self, workdir: Workdir, **variables: str) -> None:
        project = self._loaded(workdir)
        self.run: Run = directory.prepare(project)
        paths = f"{self.run.code}:{ROOT}"  # where this job's module lies, which is not the kit's
        self.cluster = project.cluster.model_copy(
            update={"environment": {"PYTHONPATH": paths, **variables}}
        )
        self.stopped = False
        self.starter = Starter(self.run, self.cluster, lambda: self.stopped)
        local_task.announce(self.run, JOB)

    def start(self, task: int, restarts: int = 0, ranks: int = 1) -> Processes:
        return self.starter.start(forked.__name__, f"probe-{task}", restarts, ranks)

    def facts(self, task: int, rank: int = 0) -> list[dict[str, Any]]:
        """What the starts of a task's rank have said."""
        log = self.run.job_logs("probe") / f"probe-{task}_{rank}_log.out"
        return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]

    @staticmethod
    def _loaded(workdir: Workdir) -> Project:
        from kit.relay import resolve

        return resolve.load(workdir.recipe_file, [], "local")


@pytest.fixture
def supervisor(workdir: Workdir) -> Any:
    made = Supervisor(workdir)
    yield made
    made.starter.close()


def end(processes: Processes) -> int:
    wait_until(lambda: processes.code() is not None, "an end", seconds=60)
    code = processes.code()
    assert code is not None
    return code


def test_each_rank_is_a_process_of_its_own_and_the_imports_are_shared(
    supervisor: Supervisor,
) -> None:
    assert end(supervisor.start(0, ranks=2)) == DONE
    assert end(supervisor.start(0, restarts=1, ranks=2)) == DONE
    facts = [*supervisor.facts(0, 0), *supervisor.facts(0, 1)]
    assert [fact["rank"] for fact in facts] == ["0", "0", "1", "1"]
    assert len({fact["pid"] for fact in facts}) == 4
    (server,) = {fact["imported_by"] for fact in facts}
    assert server not in {fact["pid"] for fact in facts}
    for fact in facts:
        assert fact["parent"] == os.getpid()
        assert fact["session"] == fact["pid"]
        assert fact["input"] == ""
    titles = ["probe-0.0/0", "probe-0.1/0", "probe-0.0/1", "probe-0.1/1"]
    assert [fact["title"] for fact in facts] == titles


def test_a_task_that_is_killed_is_told_by_its_signal_and_the_next_one_starts(
    supervisor: Supervisor,
) -> None:
    killed = supervisor.start(1)
    assert end(killed) == 128 + signal.SIGKILL
    killed.signal(signal.SIGTERM)  # it has ended: nobody is signalled
    assert end(supervisor.start(0)) == DONE


def test_other_code_is_imported_by_another_server(supervisor: Supervisor) -> None:
    assert end(supervisor.start(0)) == DONE
    amended = supervisor.run.root / "code-amended"
    supervisor.run.code.resolve().rename(amended)
    supervisor.run.code.unlink()
    supervisor.run.code.symlink_to(amended.name)
    assert end(supervisor.start(0, restarts=1)) == DONE
    before, after = supervisor.facts(0)
    assert before["imported_by"] != after["imported_by"]


def test_an_import_that_fails_is_told_by_the_task(workdir: Workdir) -> None:
    supervisor = Supervisor(workdir, PRELOAD_FAILS="yes")
    try:
        assert end(supervisor.start(2)) not in (None, DONE)
    finally:
        supervisor.starter.close()
    log = (supervisor.run.job_logs("probe") / "probe-2_0_log.out").read_text()
    assert "ImportError: no such library" in log


def test_a_supervisor_that_is_stopped_does_not_wait_for_an_import(workdir: Workdir) -> None:
    supervisor = Supervisor(workdir, PRELOAD_SECONDS="3600")
    supervisor.stopped = True
    try:
        with pytest.raises(Interrupted, match="stopped before it began"):
            supervisor.start(0)
    finally:
        supervisor.starter.close()


def test_with_gpus_each_rank_begins_by_itself(workdir: Workdir) -> None:
    supervisor = Supervisor(workdir)
    cluster = supervisor.cluster.model_copy(update={"device": "cuda"})
    starter = Starter(supervisor.run, cluster, lambda: False)
    assert end(starter.start(forked.__name__, "probe-0", 0, 2)) == DONE
    for rank in (0, 1):
        (fact,) = supervisor.facts(0, rank)
        assert fact["imported_by"] == fact["pid"]
    starter.close()
