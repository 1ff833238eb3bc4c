"""The end of a time limit that moves while the job runs."""

from __future__ import annotations

import time

import pytest

from kit.cluster.time_limit import end_of
from kit.run.time_limit import TimeLimit, Unknown

SHOWN = {
    "JobState": "RUNNING",
    "Restarts": "2",
    "TimeLimit": "01:00:00",
    "EndTime": "2026-11-29T12:00:00",
}


class Slurm:
    """A scheduler that answers when the test says so, and a clock that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: float | None) -> None:
        self.time = 1_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.time)
        self.end = None if left is None else self.time + left
        self.answers, self.asked = True, 0
        self.limit = TimeLimit(self.end, self.ask, lambda: self.time, lambda work: work())

    def ask(self) -> float | None:
        self.asked += 1
        if not self.answers:
            raise Unknown
        return self.end

    def leaves_after(self, needed: float, at_most: int = 10_000) -> int | None:
        """The seconds until a loop leaves that looks once a second."""
        for second in range(at_most):
            if self.limit.is_near(needed):
                return second
            self.time += 1.0
        return None


def test_a_limit_that_does_not_move_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    assert slurm.leaves_after(100.0) == 901
    assert slurm.asked <= 5  # every five minutes, and near the end once a minute


def test_an_extended_limit_is_learned_just_before_the_old_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    assert slurm.leaves_after(100.0, at_most=840) is None
    assert slurm.end is not None
    slurm.end += 5000.0
    assert slurm.leaves_after(100.0) == 5061


def test_a_shortened_limit_is_learned_within_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, 10_000.0)
    assert slurm.leaves_after(100.0, at_most=10) is None
    slurm.end = slurm.time + 1000.0
    assert slurm.leaves_after(100.0) == 901


def test_a_limit_that_was_lifted_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    slurm.end = None
    assert slurm.leaves_after(100.0) is None
    assert slurm.limit.left() == float("inf")


def test_without_an_answer_the_end_known_before_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    slurm.answers = False
    assert slurm.leaves_after(100.0) == 901


def test_after_a_suspension_the_old_end_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    assert slurm.leaves_after(100.0, at_most=100) is None
    slurm.time += 7200.0
    slurm.answers = False  # for a moment
    assert slurm.leaves_after(100.0, at_most=20) is None
    assert slurm.leaves_after(100.0) == 10  # but without an answer it is not ignored for ever


def test_a_suspension_that_slurm_adds_to_the_limit_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    assert slurm.leaves_after(100.0, at_most=100) is None
    slurm.time += 7200.0
    assert slurm.end is not None
    slurm.end += 7200.0
    assert slurm.leaves_after(100.0) == 801


def test_a_limit_is_not_asked_for_more_than_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, 300.0)
    for _ in range(600):
        slurm.limit.is_near(1000.0)
        slurm.time += 1.0
    assert slurm.asked == 9


def test_without_a_scheduler_to_ask_the_end_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    limit = TimeLimit(2000.0)
    assert (limit.is_near(999.0), limit.is_near(1001.0)) == (False, True)
    assert not TimeLimit(None).is_near(1e9)
    assert (TimeLimit(2000.0).is_known, TimeLimit(None).is_known) == (True, False)


def test_a_change_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = Slurm(monkeypatch, 1000.0)
    slurm.end = slurm.time + 3000.0
    slurm.leaves_after(100.0, at_most=1500)
    assert (
        capsys.readouterr().err.count("the time limit was changed: this attempt now ends at") == 1
    )


def test_slurms_fields_have_the_end_of_a_running_job_only() -> None:
    end = end_of(SHOWN, 2)
    assert end is not None
    assert time.strftime("%H:%M", time.localtime(end)) == "12:00"
    assert end_of(SHOWN | {"TimeLimit": "UNLIMITED", "EndTime": "Unknown"}, 2) is None
    for other in ({"JobState": "PENDING"}, {"Restarts": "3"}, {"EndTime": "Unknown"}):
        with pytest.raises(Unknown):
            end_of(SHOWN | other, 2)
