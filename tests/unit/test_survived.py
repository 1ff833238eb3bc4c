"""The interruptions that a run has survived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.cluster.snapshot import snapshot
from kit.relay import survived
from kit.store.files import write_json

if TYPE_CHECKING:
    from kit.store.paths import Run


def decided(run: Run, name: str, job: str, reason: str, *, requeued: bool = True) -> None:
    decisions.record(run, job, name, decisions.Decision(requeued, reason))


def began(run: Run, number: int, job: str) -> None:
    start = {"job": job, "from_step": 10 * (number - 1), "time": 1e9 + number}
    write_json(run.attempt(number).start, start)


def reasons(run: Run) -> list[str]:
    return [row["reason"] for row in survived.survived(snapshot(run))]


def test_a_stage_that_failed_for_good_has_survived_nothing(run: Run) -> None:
    decided(run, "preprocess", "18_1.0", "preemption")
    for restart in (1, 2):
        decided(run, "preprocess", f"18_1.{restart}", "failed (exit code 1)")
    decided(run, "preprocess", "18_1.3", "failed 3 times (exit code 1)", requeued=False)
    decided(run, "preprocess", "18_2.0", "failed (exit code 1)")  # another task, which succeeded
    assert reasons(run) == ["preemption", "failed (exit code 1)"]


def test_a_crash_before_a_new_checkpoint_was_survived_whatever_came_later(run: Run) -> None:
    decided(run, "train", "17.0", "crash (exit code 137)")
    run.checkpoint(10, 2).mkdir(parents=True)
    decided(run, "train", "17.1", "crash (exit code 1)")
    text = "crash, 4 times without a new checkpoint (exit code 1)"
    decided(run, "train", "17.2", text, requeued=False)
    assert reasons(run) == ["crash (exit code 137)"]


def test_what_slurm_requeued_itself_counts(run: Run) -> None:
    decided(run, "train", "17.0", "requeued by Slurm", requeued=False)
    decided(run, "train", "17.1", "superseded by a newer attempt", requeued=False)
    assert reasons(run) == ["requeued by Slurm", "superseded by a newer attempt"]


def test_a_lost_node_that_recorded_nothing_is_told_by_the_attempt_that_followed(run: Run) -> None:
    for number, job in enumerate(("17.0", "17.1", "17.2", "19.0"), 1):
        began(run, number, job)
    decided(run, "train", "17.1", "preemption")
    found = survived.survived(snapshot(run))
    assert [(row["job"], row["reason"]) for row in found] == [
        ("17.0", survived.LOST), ("17.1", "preemption"),
    ]  # fmt: skip


def test_many_of_a_kind_are_a_line(run: Run) -> None:
    for restart in range(3):
        decided(run, "train", f"17.{restart}", "preemption")
    decided(run, "train", "17.3", "time limit")
    assert [*survived.lines(survived.survived(snapshot(run)))] == [
        "preemption of train (3 times), requeued",
        "time limit of train (job 17.3), requeued",
    ]
