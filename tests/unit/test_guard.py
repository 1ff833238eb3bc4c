"""A guard over the files of a run: what it reports and to whom it leaves that, blind or not."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kit.config.alerts import Alerting
from kit.errors import ClusterError
from kit.store.files import write_json
from kit.watch import guard_state
from kit.watch.detectors import Alert
from kit.watch.guard import BLIND, Guard
from kit.watch.holding import Holding
from kit.watch.sight import Sight, sight

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run

NOON = 1_700_000_000.0
STALL = Alert("stall", "critical", "no step for 12 min", "ekiden train status r")
SLOW = Alert("slow", "warning", "30,000 tokens/s", "ekiden train status r")


@pytest.fixture(autouse=True)
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    return tmp_path / "states"


class Watched:
    """A guard at hand-made sights and moments, and the lines it prints."""

    def __init__(self, run: Run, **alerting: Any) -> None:
        run.root.mkdir(parents=True, exist_ok=True)
        self.sight = Sight(Alerting(**alerting))
        self.now = NOON
        self.lines: list[str] = []
        self.asked: list[int | None] = []
        self.guard = Guard(run, self.sight.alerting, self.see, self.lines.append, lambda: self.now)

    def see(self, last_step: int | None) -> Sight:
        self.asked.append(last_step)
        return self.sight

    def at(self, now: float, **sight: Any) -> list[str]:
        """The subjects of the messages of a look at that moment."""
        self.now, self.sight = NOON + now, replace(self.sight, **sight)
        self.lines.clear()
        self.look = self.guard.look()
        return [line.split(" ", 2)[2].partition("\n")[0] for line in self.lines]


def test_an_alert_is_reported_by_one_of_several_guards(run: Run) -> None:
    first, second = Watched(run), Watched(run)
    assert first.at(0, alerts=[STALL], step=40) == [f"{run.root.name}: critical: {STALL.text}"]
    assert second.at(30, alerts=[STALL]) == first.at(3599) == []
    assert second.at(3600) == [f"{run.root.name}: still critical: {STALL.text}"]
    assert first.at(3660) == []
    assert first.at(5000, alerts=[]) == [f"{run.root.name}: resolved: {STALL.text}"]
    assert second.at(5060, alerts=[]) == []
    assert second.asked[-1] == 40


def test_a_guard_keeps_out_while_another_is_reporting(run: Run) -> None:
    first = Watched(run)
    with guard_state.turn(run) as mine:
        assert mine is not None
        assert first.at(0, alerts=[STALL]) == []
        assert first.look.well
    assert len(first.at(1)) == 1
    assert not run.guard.lock.exists()


def test_a_lock_that_a_killed_guard_left_is_taken_over(run: Run) -> None:
    first = Watched(run)
    run.guard.lock.write_text("")
    assert first.at(0, alerts=[STALL]) == []
    os.utime(run.guard.lock, (NOON, NOON))
    assert len(first.at(60)) == 1


def test_only_the_severity_asked_for_is_reported(run: Run) -> None:
    first = Watched(run, severity="critical")
    assert first.at(0, alerts=[SLOW, STALL]) == [f"{run.root.name}: critical: {STALL.text}"]
    assert guard_state.load(run).since() == {"slow": NOON, "stall": NOON}


def test_a_heartbeat_needs_sight(run: Run) -> None:
    first = Watched(run)
    first.at(0, blind="squeue: no answer in 60 s")
    assert not run.guard.heartbeat.exists()
    assert not first.look.well
    first.at(60, blind=None)
    assert run.guard.heartbeat.exists()
    assert first.look.well


def test_a_guard_that_sees_nothing_for_long_says_so_once_and_when_it_sees_again(run: Run) -> None:
    first = Watched(run)
    first.at(0)
    assert first.at(BLIND - 1, blind="squeue: no answer in 60 s") == []
    (told,) = first.at(BLIND)
    assert "critical: the guard has not seen the run for 15 min: squeue: no answer in 60 s" in told
    assert first.at(BLIND + 60) == first.at(BLIND + 120, blind=None) == []
    (told,) = first.at(BLIND + 900)
    assert "resolved: the guard has not seen" in told


@pytest.mark.parametrize("error", [ClusterError("squeue: gone"), PermissionError("gone")])
def test_whatever_prevents_a_look_makes_it_blind(run: Run, error: Exception) -> None:
    first = Watched(run)

    def fail(_: int | None) -> Sight:
        raise error

    first.guard._see = fail
    first.at(0)
    assert first.look.blind is not None
    assert "gone" in first.look.blind


def test_the_end_is_reported_once_and_again_after_an_extension(run: Run) -> None:
    first, second = Watched(run), Watched(run)
    (told,) = first.at(0, end="training is done: step 100")
    assert told.endswith("done: training is done: step 100")
    assert first.look.done
    assert second.at(60, end="training is done: step 100") == []
    assert second.look.done
    assert second.at(120, end=None) == []
    assert not second.look.done
    assert len(first.at(180)) == 1


def test_a_loop_ends_with_the_run(run: Run) -> None:
    watched = Watched(run)
    watched.sight = replace(watched.sight, end="training is done")
    watched.guard.loop(60.0)
    assert len(watched.lines) == 1


def test_a_damaged_state_counts_as_none(run: Run) -> None:
    first = Watched(run)
    for damage in ("{", "[]", '{"held": {"a": 1}}', '{"of a newer version": 1, "held": {}}'):
        run.guard.state.write_text(damage)
        assert guard_state.load(run) == Holding()
    assert len(first.at(0, alerts=[STALL])) == 1


def test_a_run_that_was_removed_does_not_come_back(run: Run, states: Path) -> None:
    first = Watched(run)
    shutil.rmtree(run.root)
    first.at(0)
    assert first.look.blind is not None
    assert not run.root.exists()
    assert states.exists()


def facts(**states: str) -> dict[str, Any]:
    chain = {"tokenize": "done", "train": "done", "evaluate": "done", "export": "done"} | states
    reason = "squeue: no answer in 60 s"
    return {
        "run": "r",
        "chain": {name: {"state": state, "reason": reason} for name, state in chain.items()},
        "alerts": [{**STALL.facts(), "since": None}],
        "problems": [],
        "training": {"step": 100, "loss": 3.0},
    }


def test_a_look_at_the_facts() -> None:
    seen = sight(Alerting(), facts(train="running", evaluate="queued"))
    assert (seen.alerts, seen.step, seen.blind, seen.end) == ([STALL], 100, None, None)
    assert sight(Alerting(), facts(train="unknown")).blind == "train: squeue: no answer in 60 s"
    assert sight(Alerting(), facts(), "attempts/0002: gone").blind == "attempts/0002: gone"


def test_damage_is_an_alert_for_each_file() -> None:
    problems = ["r/attempts/0001/ledger.jsonl: a row is damaged", "r/attempts/0002: no JSON"]
    seen = sight(Alerting(), {**facts(), "problems": problems})
    assert seen.blind is None
    assert [alert.key for alert in seen.alerts[1:]] == [
        "damaged r/attempts/0001/ledger.jsonl",
        "damaged r/attempts/0002",
    ]


@pytest.mark.parametrize(
    ("states", "end"),
    [
        ({}, "training is done: step 100, loss 3.000; evaluate, export: done"),
        (
            {"evaluate": "failed"},
            "training is done: step 100, loss 3.000; evaluate: failed; export: done",
        ),
        ({"tokenize": "stale"}, "training is done: step 100, loss 3.000; evaluate, export: done"),
        ({"evaluate": "queued"}, None),
        ({"evaluate": "unknown"}, None),
        ({"train": "failed"}, None),
    ],
)
def test_the_run_is_done_once_no_job_is_left(states: dict[str, str], end: str | None) -> None:
    assert sight(Alerting(), facts(**states)).end == end


def test_the_state_of_another_place_counts_if_it_is_newer(run: Run, states: Path) -> None:
    here, elsewhere = guard_state.places(run)
    assert elsewhere.state.is_relative_to(states)
    write_json(here.state, Holding(time=1.0, step=1).facts())
    write_json(elsewhere.state, Holding(time=2.0, step=2).facts())
    assert guard_state.load(run).step == 2
