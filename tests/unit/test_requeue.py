"""What the traps of a job know of its end: from Slurm's fields, from its refusals, and without Slurm."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from kit.cluster import patience, preemption, successor, unasked
from kit.cluster.state import of_fields
from kit.errors import ClusterError
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from kit.store.paths import Run

FIELDS = {"JobId": "17", "JobState": "COMPLETING", "PreemptTime": "2026-11-29T17:13:08"}


@pytest.mark.parametrize(
    ("told", "cancelled"), [("17:13:08", True), ("17:13:17", True), ("17:13:18", False)]
)
def test_what_is_told_to_end_within_the_grace_time_was_cancelled(
    told: str, cancelled: bool
) -> None:
    assert preemption.within_grace({**FIELDS, "EndTime": f"2026-11-29T{told}"}, 10) is cancelled


def test_without_a_grace_time_slurm_itself_ends_the_job() -> None:
    assert not preemption.within_grace({**FIELDS, "EndTime": FIELDS["PreemptTime"]}, 0)


@pytest.mark.parametrize("time", ["None", "Unknown"])
def test_a_job_without_a_time_of_preemption_was_not_preempted(time: str) -> None:
    assert not preemption.ended({**FIELDS, "PreemptTime": time})


def test_a_job_that_runs_within_its_grace_time_is_preempted() -> None:
    assert preemption.ended({**FIELDS, "JobState": "RUNNING"})


@pytest.mark.parametrize(
    ("words", "final"),
    [
        ("scontrol requeue: Requested operation is presently disabled for job 17", True),
        ("scontrol requeue: Access/permission denied for job 17", True),
        ("scontrol requeue: Job is pending execution for job 17", True),
        ("scontrol show: slurm_load_jobs error: Invalid job id specified", True),
        ("scontrol: not on the PATH; is this a login node of a Slurm cluster?", True),
        ("scontrol requeue: Unable to contact slurm controller (connect failure)", False),
        ("scontrol show: slurm_load_jobs error: Socket timed out on send/recv operation", False),
        ("scontrol show: slurm_load_jobs error: Protocol authentication error", False),
        ("scontrol: no answer in 60 s; is slurmctld running?", False),
    ],
)
def test_a_refusal_is_told_from_silence(words: str, final: bool) -> None:
    assert patience.is_refusal(ClusterError(words)) is final


def test_a_refusal_is_not_asked_for_again() -> None:
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise ClusterError("Access/permission denied")

    with pytest.raises(ClusterError, match="denied"):
        patience.until_answered(refuse)
    assert len(asked) == 1


def ended(run: Run, reason: str) -> None:
    write_json(run.attempt(1).end, {"job": "17.0", "outcome": "interrupted", "reason": reason})


@pytest.mark.parametrize(
    ("reason", "preempted"), [("SIGTERM", True), ("SIGUSR2", True), ("time limit", False)]
)
def test_without_slurm_a_signal_to_the_ranks_alone_is_a_preemption(
    run: Run, reason: str, preempted: bool
) -> None:
    ended(run, reason)
    assert unasked.state(run, "train", "17.0", 75).preempted is preempted
    assert not unasked.state(run, "train", "18.0", 137).preempted
    assert unasked.state(run, "preprocess", "9_1.0", 143).preempted
    assert not unasked.state(run, "preprocess", "9_1.0", 1).preempted


def test_without_slurm_a_signal_to_the_shell_is_a_scancel_unless_the_limit_is_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(run, "SIGTERM")
    monkeypatch.setenv(unasked.TERMINATED, "1")
    assert unasked.state(run, "train", "17.0", 75).reason == "None"
    for left, reason in ((600, "None"), (10, "TimeLimit")):
        monkeypatch.setenv("EKIDEN_END_TIME", f"{time.time() + left:.0f}")
        state = unasked.state(run, "train", "17.0", 75)
        assert (state.state, state.reason, state.preempted) == ("COMPLETING", reason, False)


def test_the_state_of_a_job_has_the_age_of_its_start() -> None:
    now = datetime.now().replace(microsecond=0)  # noqa: DTZ005  Slurm's own
    times = {"StartTime": now - timedelta(minutes=2), "EndTime": now + timedelta(minutes=58)}
    fields = {name: value.isoformat() for name, value in times.items()}
    found = of_fields({"JobState": "RUNNING", **fields}, preempted=False)
    assert found.seconds_run == pytest.approx(120, abs=10)
    assert found.seconds_left == pytest.approx(58 * 60, abs=10)
    found = of_fields({"JobState": "RUNNING", "StartTime": "Unknown"}, preempted=False)
    assert (found.seconds_run, found.seconds_left) == (None, None)


def test_a_start_has_one_successor_whoever_submits_it(run: Run) -> None:
    write_json(run.jobs, {"slurm": {"train": "17"}})
    run.job_logs("train").mkdir(parents=True)
    with pytest.raises(ClusterError, match=r"17_submission\.sh: No such file"):
        successor.submit(run, "train", "17", "17.0")
    with pytest.raises(ClusterError, match="tried before"):
        successor.submit(run, "train", "17", "17.0")
    run.successor("train", "17.0").write_text("18")
    assert successor.submit(run, "train", "17", "17.0") == "18"
    assert read_json(run.jobs)["slurm"] == {"train": "17"}
    with pytest.raises(ClusterError, match="submit the stage again"):
        successor.submit(run, "preprocess", "9_1", "9_1.0")
