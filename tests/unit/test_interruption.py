"""Why an attempt is to end: what a process is told, and what rank 0 sees."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from kit.store.files import write_json
from kit.training.interruption import SIGNALS, Interruption, Reason, StopMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    """With the handlers of this process put back afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Interruption()
    for number, handler in before.items():
        signal.signal(number, handler)


def stop_monitor(run: Run, interruption: Interruption) -> StopMonitor:
    run.attempt(1).root.mkdir(exist_ok=True)
    return StopMonitor(run, run.attempt(1), interruption)


def seen(run: Run, interruption: Interruption, needed: float = 0.0) -> Reason:
    stop_monitor(run, interruption).poll(lambda: needed)
    return Reason(interruption.received)


def test_a_signal_is_noted_and_the_weightier_one_stands(interruption: Interruption) -> None:
    assert interruption.received is Reason.NONE
    os.kill(os.getpid(), signal.SIGUSR2)
    assert interruption.received is Reason.WARNED
    first = interruption.signalled_at
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM):
        os.kill(os.getpid(), number)
        assert interruption.received is Reason.SIGTERM
    os.kill(os.getpid(), signal.SIGINT)
    assert interruption.received is Reason.CANCELLED
    assert interruption.signalled_at == first


def test_only_a_user_and_a_newer_attempt_end_a_run_for_good() -> None:
    assert {reason: reason.outcome for reason in Reason if reason} == {
        Reason.WARNED: "interrupted",
        Reason.TIME_LIMIT: "interrupted",
        Reason.SIGTERM: "interrupted",
        Reason.CANCELLED: "interrupted",
        Reason.STOP_FILE: "stopped",
        Reason.SUPERSEDED: "superseded",
    }
    # These words decide in kit/cluster/restart_rules.py.
    assert (Reason.TIME_LIMIT.text, Reason.SIGTERM.text) == ("time limit", "SIGTERM")
    assert Reason.WARNED.text == "SIGUSR2"
    assert Reason.CANCELLED.text == "cancelled by its user"


def test_rank_0_looks_once_a_second(run: Run, interruption: Interruption) -> None:
    watch = stop_monitor(run, interruption)
    watch.poll(lambda: 0.0)
    run.stop.touch()
    watch.poll(lambda: 0.0)
    assert interruption.received is Reason.NONE
    watch._polled -= 1.0
    watch.poll(lambda: 0.0)
    assert interruption.received is Reason.STOP_FILE


def test_rank_0_leaves_as_long_before_the_end_as_it_needs(
    run: Run, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_END_TIME", str(int(time.time()) + 1000))
    assert seen(run, interruption, needed=500.0) is Reason.NONE
    assert seen(run, interruption, needed=1001.0) is Reason.TIME_LIMIT


def test_without_a_time_limit_there_is_no_end(run: Run, interruption: Interruption) -> None:
    assert seen(run, interruption, needed=1e9) is Reason.NONE
    assert stop_monitor(run, interruption).seconds_left(None) == float("inf")


@pytest.mark.parametrize(
    ("left", "said"),
    [(None, "time limit"), (100, "time limit"), (389, "time limit"), (500, "SIGUSR2")],
)
def test_a_warning_far_from_the_time_limit_is_none_of_the_limit(
    run: Run,
    interruption: Interruption,
    monkeypatch: pytest.MonkeyPatch,
    left: int | None,
    said: str,
) -> None:
    if left is not None:
        monkeypatch.setenv("EKIDEN_END_TIME", str(int(time.time()) + left))
    monitor = stop_monitor(run, interruption)
    assert monitor.explained(Reason.WARNED, 300).text == said
    assert monitor.explained(Reason.SIGTERM, 300) is Reason.SIGTERM


def test_a_grace_counts_from_the_signal(
    run: Run, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_END_TIME", str(int(time.time()) + 1000))
    watch = stop_monitor(run, interruption)
    assert 900 < watch.seconds_left(60) <= 1000
    os.kill(os.getpid(), signal.SIGTERM)
    assert 50 < watch.seconds_left(60) <= 60
    assert 900 < watch.seconds_left(None) <= 1000


def test_a_limit_before_the_end_of_the_grace_counts(
    run: Run, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_END_TIME", str(int(time.time()) + 30))
    watch = stop_monitor(run, interruption)
    os.kill(os.getpid(), signal.SIGTERM)
    assert 0 < watch.seconds_left(600) <= 30


def test_a_stop_file_is_seen_and_told_once(
    run: Run, interruption: Interruption, capsys: pytest.CaptureFixture[str]
) -> None:
    run.stop.touch()
    assert seen(run, interruption) is Reason.STOP_FILE
    assert "STOP file found" in capsys.readouterr().err
    assert seen(run, interruption) is Reason.STOP_FILE
    assert capsys.readouterr().err == ""
    assert run.stop.exists()  # until the next submission


@pytest.mark.parametrize("number", [2, 3])
def test_any_newer_attempt_that_has_begun_supersedes(
    run: Run, interruption: Interruption, number: int
) -> None:
    run.attempt(2).root.mkdir()  # one may have died before it wrote anything
    assert seen(run, interruption) is Reason.NONE
    run.attempt(number).root.mkdir(exist_ok=True)
    write_json(run.attempt(number).start, {})
    assert seen(run, interruption) is Reason.SUPERSEDED


def test_a_wish_for_a_checkpoint_is_met_once(run: Run, interruption: Interruption) -> None:
    watch = stop_monitor(run, interruption)
    assert not watch.take_save_request()
    run.save.touch()
    assert watch.take_save_request()
    assert not watch.take_save_request()


@pytest.mark.parametrize("supervised", [False, True])
def test_the_grace_time_counts_for_a_cancelled_run_only_where_a_supervisor_kills_after_it(
    interruption: Interruption, run: Run, monkeypatch: pytest.MonkeyPatch, supervised: bool
) -> None:
    monkeypatch.delenv("EKIDEN_SUPERVISOR", raising=False)
    if supervised:
        monkeypatch.setenv("EKIDEN_SUPERVISOR", "1")
    os.kill(os.getpid(), signal.SIGINT)
    left = stop_monitor(run, interruption).seconds_left(60.0)
    assert (left <= 60.0) is supervised
