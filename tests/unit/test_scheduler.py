"""What the kit asks of a scheduler, of Slurm and of the supervisor of this machine."""

from __future__ import annotations

import inspect
import json
import os
import socket
from typing import TYPE_CHECKING, get_args

import pytest

from kit.cluster import jobs, local, lock, scheduler, slurm, slurm_queue
from kit.cluster.jobs import Sent
from kit.cluster.scheduler import Scheduler
from kit.config.cluster import Cluster
from kit.errors import ClusterError, RunError
from kit.store.files import write_json, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run

ASKED = {
    name: [*inspect.signature(function).parameters][1:]
    for name, function in vars(Scheduler).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


@pytest.mark.parametrize("module", [slurm, local])
def test_a_scheduler_has_all_that_is_asked_of_one(module: Scheduler) -> None:
    assert {"check", "submit", "alive", "cancel", "state", "requeue", "exclude"} <= ASKED.keys()
    for name, parameters in ASKED.items():
        assert [*inspect.signature(getattr(module, name)).parameters] == parameters, name


def test_every_kind_of_cluster_has_a_scheduler() -> None:
    kinds = get_args(Cluster.model_fields["kind"].annotation)
    assert {*get_args(scheduler.Kind)} == {*kinds}
    assert [scheduler.for_kind(kind) for kind in ("slurm", "local")] == [slurm, local]


def test_a_run_is_alive_while_a_process_of_this_machine_holds_it(run: Run) -> None:
    assert scheduler.alive(run) == []
    with lock.hold(run):
        (found,) = scheduler.alive(run)
        assert (found.job, found.words) == (str(os.getpid()), "the local supervisor")
        with pytest.raises(RunError, match=f"process {os.getpid()} is already running this run"):
            scheduler.ensure_idle(run)
    scheduler.ensure_idle(run)


def test_a_run_in_slurm_is_asked_of_slurm_first(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_json(run.jobs, {"slurm": {"train": "7"}})
    for ask in (scheduler.alive, scheduler.ensure_idle, lambda run: scheduler.queue([run])):
        with pytest.raises(ClusterError, match="squeue"):
            ask(run)  # type: ignore[operator]
    assert local.alive(run) == []


def test_what_was_sent_is_told(run: Run) -> None:
    write_text(run.supervisor_log, "")
    assert Sent({"count": "7", "train": "8"}).lines("x") == ["count: job 7", "train: job 8"]
    assert Sent({}, 3, run.supervisor_log).lines("x") == [
        f"x: process 3 is running; see {run.supervisor_log}"
    ]


def test_a_submission_keeps_out_others_on_any_machine(run: Run) -> None:
    with lock.submission(run):
        with pytest.raises(RunError, match=f"process {os.getpid()} of .* is submitting this run"):
            lock.submission(run).__enter__()
        assert run.submitting.is_file()
    assert not run.submitting.exists()


def test_a_submission_that_was_killed_keeps_out_nobody_of_its_machine(run: Run) -> None:
    gone = {"host": socket.gethostname(), "user": "a", "pid": 4194305, "time": 0.0}
    write_json(run.submitting, gone)
    with lock.submission(run):
        assert json.loads(run.submitting.read_text())["pid"] == os.getpid()
    write_json(run.submitting, gone | {"host": "another"})
    with pytest.raises(RunError, match=r"process 4194305 of a on another .* remove .*submitting"):
        lock.submission(run).__enter__()


def test_the_tasks_of_a_second_submission_are_not_those_of_the_first(run: Run) -> None:
    write_json(run.jobs, {"time": 5.0, "slurm": {"count": "7"}})
    assert jobs.sent(run) == {"count": {"time": 5.0}}  # of an earlier version
    write_json(run.jobs, {"time": 9.0, "slurm": {"train": "8"}, "sent": {"count": {"time": 5.0}}})
    assert jobs.sent(run) == {"count": {"time": 5.0}, "train": {"time": 9.0}}


def test_a_successor_keeps_the_place_of_its_job_in_the_chain(run: Run) -> None:
    ids = {"count": "7", "train": "12", "evaluate": "9", "export": "10"}
    first = {name: {"time": 5.0, "first": job} for name, job in (ids | {"train": "8"}).items()}
    write_json(run.jobs, {"time": 5.0, "slurm": ids, "sent": first})
    assert [*slurm_queue.submitted(run)] == ["count", "train", "evaluate", "export"]
    write_json(run.jobs, {"time": 5.0, "slurm": {"train": "10", "count": "9"}})
    assert [*slurm_queue.submitted(run)] == ["count", "train"]  # of an earlier version
