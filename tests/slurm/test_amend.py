"""An amendment of a run whose training job is in Slurm already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.cluster import amend_queued
from kit.store.files import write_json, write_text
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Slurm

pytestmark = pytest.mark.slurm

PARTITION, MINUTES = "cluster.training.partition", "cluster.training.minutes"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def submit(slurm: Slurm, run: Run, *options: str) -> str:
    """A job in place of the run's training, as the run directory knows it."""
    job = slurm.submit("sleep 600", "--partition=low", "--time=10", *options)
    write_json(run.jobs, {"slurm": {"train": job}})
    return job


@pytest.fixture
def pending(slurm: Slurm, run: Run) -> Iterator[str]:
    yield (job := submit(slurm, run, "--hold"))
    slurm.run("scancel", job)


@pytest.fixture
def running(slurm: Slurm, run: Run) -> Iterator[str]:
    job = submit(slurm, run)
    run.attempt(1).root.mkdir(parents=True)  # from then on a run keeps its code
    write_text(run.code / "kit" / "run" / "time_limit.py", "")
    slurm.wait(job, "RUNNING")
    yield job
    slurm.run("scancel", job)


def test_a_pending_job_gets_another_partition_and_time_limit(
    slurm: Slurm, run: Run, pending: str
) -> None:
    lines = amend_queued.apply(run, {PARTITION: "high", MINUTES: 7})
    assert lines == [
        f"job {pending}: Slurm has Partition=high",
        f"job {pending}: Slurm has TimeLimit=7",
    ]
    job = slurm.job(pending)
    assert (job["Partition"], job["TimeLimit"]) == ("high", "00:07:00")


def test_what_slurm_refuses_of_a_running_job_is_said_with_what_to_do(
    slurm: Slurm, run: Run, running: str
) -> None:
    refused, taken, remedy = amend_queued.apply(run, {PARTITION: "high", MINUTES: 7})
    assert refused.startswith(f"job {running}: Slurm refuses Partition=high (")
    within = "the training takes note of it within 5 min"
    assert taken == f"job {running}: Slurm has TimeLimit=7; {within}"
    assert f"keeps the {PARTITION} that it was submitted with" in remedy
    assert f"scancel {running}, which saves, then submit again" in remedy
    job = slurm.job(running)
    assert (job["Partition"], job["TimeLimit"]) == ("low", "00:07:00")
    (
        run.code / "kit" / "run" / "time_limit.py"
    ).unlink()  # code that knows the limit of its start only
    (taken,) = amend_queued.apply(run, {MINUTES: 8})
    assert taken.endswith(
        "; the attempt in progress ends at its old limit, the next one has the new"
    )


def test_ranks_are_of_the_next_submission_and_steps_of_the_next_attempt(
    slurm: Slurm, run: Run, running: str
) -> None:
    changes = {"training.steps": 200, "cluster.training.ranks_per_node": 4}
    submission, attempt = amend_queued.apply(run, changes)
    assert "keeps the cluster.training.ranks_per_node that it" in submission
    assert "the new training.steps from its next attempt on" in attempt


def test_of_a_job_that_has_ended_nothing_is_said(slurm: Slurm, run: Run) -> None:
    job = submit(slurm, run)
    slurm.run("scancel", job)
    slurm.wait(job, "CANCELLED")
    assert amend_queued.apply(run, {MINUTES: 7}) == []
