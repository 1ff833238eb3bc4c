"""The words of a task's command, and which task a process takes from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import task
from kit.cluster.jobs import Job
from kit.corpus import preprocess

if TYPE_CHECKING:
    from kit.store.paths import Run

SLURM = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1",
         "SLURM_JOB_ID": "19"}  # fmt: skip


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `entry.perform` is called with."""
    calls: list[Any] = []
    monkeypatch.setattr(task.entry, "perform", lambda *arguments: calls.append(arguments))
    for name in ("EKIDEN_LOCAL_JOB", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("missing", "numbers"),
    [(None, "0-9"), ((3,), "3"), ((0, 1, 2, 5, 17, 108), "0-2,5,7-8"), ((10, 20), "0")],
)
def test_tasks_are_written_as_ranges(
    run: Run, missing: tuple[int, ...] | None, numbers: str
) -> None:
    words = task.Work.of(Job("preprocess", preprocess.work, 10, missing=missing)).words(run, "a b")
    assert words == [str(run.root), "a b", "kit.corpus.preprocess:work", "10", numbers]


def test_an_element_of_an_array_takes_the_task_at_its_index(
    run: Run, performed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "4"}
    for name, value in (SLURM | index).items():
        monkeypatch.setenv(name, value)
    task.main([str(run.root), "preprocess", "kit.corpus.preprocess:work", "10", "0-2,5,7-8"])
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "EKIDEN_NODES": "1"}
    assert performed == [(preprocess.work, run, "preprocess", 7, 10, ranks)]
    assert run.task_done("preprocess", "17_4").is_file()


def test_a_step_that_is_smaller_than_its_job_has_the_nodes_of_the_step(
    run: Run, performed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (SLURM | {"SLURM_JOB_NUM_NODES": "2", "SLURM_STEP_NUM_NODES": "1"}).items():
        monkeypatch.setenv(name, value)
    task.main([str(run.root), "preprocess", "kit.corpus.preprocess:work", "1", "0"])
    assert performed[0][-1]["EKIDEN_NODES"] == "1"


def test_a_rank_has_the_place_that_srun_gives_it(
    run: Run, performed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"SLURM_PROCID": "13", "SLURM_LOCALID": "2", "SLURM_NTASKS": "16"}  # cyclic: not 13 % 8
    for name, value in (SLURM | place | {"SLURM_JOB_NUM_NODES": "2"}).items():
        monkeypatch.setenv(name, value)
    task.main([str(run.root), "train", "kit.corpus.preprocess:work", "1", "0"])
    ((*_, ranks),) = performed
    assert ranks == {"RANK": "13", "LOCAL_RANK": "2", "WORLD_SIZE": "16", "EKIDEN_NODES": "2"}


def test_a_task_that_fails_leaves_no_mark_of_success(
    run: Run, performed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(task.entry, "perform", lambda *_: exec("raise SystemExit(1)"))
    with pytest.raises(SystemExit):
        task.main([str(run.root), "preprocess", "kit.corpus.preprocess:work", "2", "1"])
    assert not run.task_done("preprocess", "19").exists()
    assert not performed


def test_on_this_machine_a_task_has_its_own_number_inside_an_array_as_well(
    run: Run, performed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    monkeypatch.setenv("EKIDEN_LOCAL_JOB", "preprocess-3-abc.0")
    task.main([str(run.root), "preprocess", "kit.corpus.preprocess:work", "10", "3"])
    assert performed == [(preprocess.work, run, "preprocess", 3, 10, {})]
