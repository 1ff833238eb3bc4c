"""What is wrong with a run: nothing in a clean one, and each fault that is put into one, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kit.watch.detectors import DETECTORS, found
from kit.watch.holding import Holding
from kit.watch.observed import RECENT, AttemptSeen, Disk, View, WatchedJob

if TYPE_CHECKING:
    from kit.cluster.decisions import RequeueRecord
    from kit.tracking.rows import StepRow

STEP, DAY, HOUR = 10.0, 86_400.0, 3600.0
PER_DAY = int(DAY / STEP)
NOISE = np.random.default_rng(0).normal(0.0, 0.05, 100_000)
LOOK = 60.0  # seconds between two looks
REPEAT = HOUR
RANKS = 8


def row(step: int, at: float, **fields: Any) -> StepRow:
    loss = 3.0 + 6.0 * float(np.exp(-step / PER_DAY)) + float(NOISE[step * 7919 % len(NOISE)])
    rate = 52_000.0 * (1 + float(NOISE[step % len(NOISE)]) / 5)
    return {"kind": "step", "attempt": 1, "time": at, "step": step, "loss": loss, "seconds": STEP,
            "tokens_per_second": rate, "slowest_rank": step * 7919 % RANKS, "slowest_behind": 0.1 * STEP,
            **fields}  # type: ignore[typeddict-item, return-value]  # fmt: skip


def decided(at: float, reason: str, saved: int, *, requeued: bool = True) -> RequeueRecord:
    return {"time": at, "job": f"17.{int(at)}", "name": "train", "requeued": requeued,
            "reason": reason, "progress": [1, saved]}  # fmt: skip


def clean(now: float) -> View:
    """A run that is requeued every 24 hours, at its time limit, and saves every half an hour."""
    begun = now // DAY * DAY + 600  # 10 minutes until the first step of an attempt
    steps = max(0, int((now - begun) / STEP))
    done = int(now // DAY) * (PER_DAY - 60) + steps
    last = begun + steps * STEP
    save = max(begun, (now - 60) // 1800 * 1800)
    attempts = [
        AttemptSeen(
            day + 1, f"gpu{day % 3}", day * DAY, day * (PER_DAY - 60), STEP, day * DAY + 610
        )
        for day in range(max(0, int(now // DAY) - 5), int(now // DAY) + 1)
    ]
    if steps == 0:
        attempts[-1] = replace(attempts[-1], step_seconds=None, first_step=None)
    return View(
        "work/r/runs/r",
        now,
        WatchedJob("running", now // DAY * DAY, id="17"),
        resume="ekiden pipeline submit work/r/runs/r",
        steps=[
            row(done - back, last - back * STEP) for back in range(min(RECENT, done) - 1, -1, -1)
        ],
        usual_rate=52_000.0,
        usual_seconds=STEP,
        first_loss=10.4,
        best_loss=3.0 + 6.0 * float(np.exp(-done / PER_DAY)) - 0.02 if done > RECENT else None,
        attempts=attempts,
        decisions=[
            decided(day * DAY - 60, "time limit", day * PER_DAY)
            for day in range(max(1, int(now // DAY) - 5), int(now // DAY) + 1)
        ],
        saved=[(save, done - int((now - save) / STEP))] if done else [],
        interval=1800.0,
        longest=90.0,
        failures_allowed=3,
        disk=Disk(10**12, 10**11, 10**6, 1000),
        skew=0.5,
        mlflow_behind=20.0,
    )


def test_a_clean_run_of_1000_days_raises_nothing() -> None:
    """Looked at twice a day at changing hours, and every minute around a requeue."""
    moments = [half * DAY / 2 + half * 577 % (DAY / 2) for half in range(2000)]
    moments += [500 * DAY + minute * LOOK for minute in range(-5, 60)]
    assert [alert for now in moments for alert in found(clean(now))] == []


NEVER = "Slurm: DependencyNeverSatisfied"
NOON = 3.5 * DAY
Fault = Callable[[View], View]


def last_loss(view: View, *losses: float | None) -> View:
    rows = [*view.steps]
    for back, loss in enumerate(reversed(losses), 1):
        rows[-back] = {**rows[-back], "loss": loss}
    return replace(view, steps=rows)


def silent(view: View, seconds: float) -> View:
    """No step has ended for so long."""
    rows = [row_ for row_ in view.steps if row_["time"] < NOON - seconds]
    return replace(view, steps=rows)


def same_start(view: View, number: int, *, stepped: bool = True) -> View:
    """The last attempts all started from one step."""
    attempts = [
        AttemptSeen(9 + one, "gpu0", NOON - 900 + 60 * one, 500, STEP if stepped else None,
                    NOON - 890 + 60 * one if stepped else None)
        for one in range(number)
    ]  # fmt: skip
    return replace(view, attempts=attempts, saved=[(NOON - 950, 500)])


def slower_with(view: View, node: str) -> View:
    attempts = [
        replace(one, step_seconds=14.0) if one.node == node else one for one in view.attempts
    ]
    return replace(view, attempts=attempts)


def crashes(view: View, number: int) -> View:
    rows = [decided(NOON - 500 + 60 * one, "crash (exit code 1)", 500) for one in range(number)]
    return replace(view, decisions=rows, saved=[(NOON - 950, 500)])


FAULTS: dict[str, Fault] = {
    "loss_not_finite": lambda view: last_loss(view, None),
    "loss_spike": lambda view: last_loss(view, 4.9, 3.4),
    "divergence": lambda view: last_loss(view, *[3.9] * 60),
    "slow": lambda view: replace(
        view, steps=[*view.steps[:-30], *({**r, "tokens_per_second": 30_000.0} for r in view.steps[-30:])]
    ),
    "slow_node": lambda view: slower_with(view, "gpu0"),
    "slow_rank": lambda view: replace(
        view, steps=[{**r, "slowest_rank": 3, "slowest_behind": 2.0} for r in view.steps]
    ),
    "no_learning": lambda view: replace(view, first_loss=view.best_loss),
    "stall": lambda view: silent(view, 700),
    "no_progress": lambda view: same_start(view, 4),
    "checkpoint_late": lambda view: replace(view, saved=[(NOON - 3 * 1800 - 1, 100)]),
    "churn": lambda view: crashes(same_start(view, 3, stepped=False), 4),
    "pending": lambda view: replace(view, job=WatchedJob("queued", NOON - DAY - 1, "Slurm: Priority")),
    "dependency": lambda view: replace(view, job=WatchedJob("queued", NOON, NEVER)),
    "budget": lambda view: crashes(view, 3),
    "disk": lambda view: replace(view, disk=Disk(10**10, 10**11)),
    "save_failed": lambda view: replace(view, save_failed=(NOON - 5, "Disk quota exceeded")),
    "clock_skew": lambda view: replace(view, skew=-300.0),
    "mlflow_behind": lambda view: replace(view, mlflow_behind=3700.0),
    "stage_failed": lambda view: replace(view, failed=[("evaluate", "exit code 1")]),
    "ended": lambda view: replace(view, job=WatchedJob("gone"), ended="hang (rank 1), 4 times"),
}  # fmt: skip


def test_every_detector_has_a_fault() -> None:
    assert {detector.__name__ for detector in DETECTORS} == {*FAULTS}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported_once_and_again_after_an_hour(name: str) -> None:
    holding, told = Holding(), []
    before, faulty = found(clean(NOON)), found(FAULTS[name](clean(NOON)))
    for look in range(int((REPEAT + 10 * LOOK) / LOOK)):
        now = NOON + look * LOOK
        holding, due = holding.after(faulty if look else before, now, REPEAT)
        for message in due:
            holding = holding.delivered(message, now)
        holding = Holding.of(json.loads(json.dumps(holding.facts())))
        told += [(look, one.event, one.alert) for one in due if one.alert.detector == name]
    assert [(look, event) for look, event, _ in told] == [
        (1, "raised"),
        (1 + REPEAT / LOOK, "again"),
    ]
    alert = told[0][2]
    assert alert.severity in ("critical", "warning")
    assert alert.text
    assert alert.command


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_raises_no_alarm_of_another_kind(name: str) -> None:
    causes = {"churn": {"churn", "budget"}}.get(name, {name})
    assert {alert.detector for alert in found(FAULTS[name](clean(NOON)))} == causes


def test_overflow_in_fp16_is_no_bad_loss() -> None:
    view = last_loss(clean(NOON), None)
    rows = [*view.steps[:-1], {**view.steps[-1], "overflow": True}]
    assert found(replace(view, steps=rows)) == []  # type: ignore[arg-type]


def test_a_view_of_nothing_raises_nothing() -> None:
    assert found(View("r", 0.0)) == []


def test_a_pause_of_a_few_minutes_is_no_stall() -> None:
    assert found(silent(clean(NOON), 500)) == []


def test_a_start_that_takes_too_long_is_a_stall() -> None:
    begun = replace(clean(NOON), attempts=[AttemptSeen(9, "gpu0", NOON - 1700, 500, None, None)])
    assert "stall" not in {alert.detector for alert in found(begun)}
    stuck = replace(begun, now=NOON + 200)
    assert [alert.detector for alert in found(stuck) if alert.detector == "stall"] == ["stall"]


def slowest(view: View, rank: int, behind: float, every: int = 1) -> View:
    """In each `every`th step that rank was the slowest, by so much."""
    rows = [
        {**row, "slowest_rank": rank, "slowest_behind": behind} if row["step"] % every == 0 else row
        for row in view.steps
    ]
    return replace(view, steps=rows)  # type: ignore[arg-type]


def test_a_slow_rank_is_named_with_the_time_that_it_costs() -> None:
    (alert,) = found(slowest(clean(NOON), 5, 1.5))
    assert (alert.detector, alert.about) == ("slow_rank", "rank 5")
    assert "rank 5 was the slowest in 100 of the last 100 steps, by 1.5 s of 10 s" in alert.text


def test_a_rank_that_costs_little_or_is_slow_at_times_is_no_alert() -> None:
    assert found(slowest(clean(NOON), 5, 0.09 * STEP)) == []
    assert found(slowest(clean(NOON), 5, 1.5, every=2)) == []


def test_rows_without_the_slowest_rank_raise_nothing() -> None:
    """A ledger of an earlier version."""
    keys = ("slowest_rank", "slowest_behind")
    rows = [{k: v for k, v in row.items() if k not in keys} for row in clean(NOON).steps]
    assert found(replace(clean(NOON), steps=rows)) == []  # type: ignore[arg-type]


def test_a_model_that_learns_slowly_in_its_first_steps_is_no_alert() -> None:
    early = replace(clean(NOON), steps=clean(NOON).steps, first_loss=10.4, best_loss=10.2)
    rows = [{**row, "step": row["step"] - clean(NOON).steps[-1]["step"] + 999, "loss": 10.2 + NOISE[0]}
            for row in early.steps]  # fmt: skip
    assert found(replace(early, steps=rows)) == []  # type: ignore[arg-type]


def test_a_run_that_its_user_stopped_is_reported_once() -> None:
    view = FAULTS["ended"](clean(NOON))
    rows = [*view.decisions, decided(NOON, "stopped: STOP file", 1, requeued=False)]
    (crashed,), (stopped,) = found(view), found(replace(view, decisions=rows))
    assert (crashed.severity, crashed.repeats) == ("critical", True)
    assert (stopped.severity, stopped.repeats) == ("warning", False)
