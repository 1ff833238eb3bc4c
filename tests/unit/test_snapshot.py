"""What the files of a run say at one moment."""

from __future__ import annotations

import json
import time
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions
from kit.cluster.decisions import Decision
from kit.cluster.snapshot import Hang, LastEnd, Mistake, Submitted, snapshot
from kit.errors import CheckpointError
from kit.store import records
from kit.store.files import write_json
from kit.tracking import ledger

if TYPE_CHECKING:
    from kit.store.paths import Run


def attempt(run: Run, number: int, start: int, steps: range, **end: Any) -> None:
    """An attempt that began at `start` and has written these steps."""
    write_json(run.attempt(number).start, {"from_step": start, "amendments": 0})
    rows = [{"kind": "step", "attempt": number, "step": step} for step in steps]
    run.attempt(number).ledger.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if end:
        write_json(run.attempt(number).end, {"reason": None, **end})


def test_a_run_that_is_not_there_has_a_snapshot_too(run: Run) -> None:
    seen = snapshot(run)
    assert seen.submitted == Submitted()
    assert (seen.attempts, len(seen.steps), seen.recent, seen.saved, seen.stopped) == (
        [], 0, [], None, None,
    )  # fmt: skip


def test_the_steps_are_those_of_the_ledger_s_curve_and_the_attempts_keep_theirs(run: Run) -> None:
    attempt(run, 1, 0, range(1, 8))
    attempt(run, 2, 5, range(6, 11), outcome="done", step=10)
    seen = snapshot(run)
    assert seen.recent == ledger.canonical(run)
    assert [(row["attempt"], row["step"]) for row in seen.recent[4:7]] == [(1, 5), (2, 6), (2, 7)]
    assert seen.steps.step.tolist() == [*range(1, 11)]
    assert [len(one.rows.steps) for one in seen.attempts] == [7, 5]
    assert [one.end for one in seen.attempts] == [None, LastEnd("done", None, 10)]


def test_without_the_curve_no_ledger_is_read(run: Run) -> None:
    attempt(run, 1, 0, range(1, 3))
    run.attempt(1).ledger.write_text("no row of a ledger\n")
    seen = snapshot(run, curve=False)
    assert (len(seen.begun), len(seen.steps), seen.damage) == (1, 0, [])
    assert "no row of a ledger" in snapshot(run).damage[0]


def test_the_newest_checkpoint_is_what_is_saved(run: Run) -> None:
    for step in (20, 10):
        run.checkpoint(step, 1).mkdir(parents=True)
    assert snapshot(run).saved == 20


def test_hang_mistake_and_decisions_are_in_it(run: Run) -> None:
    attempt(run, 1, 0, range(1, 3))
    hang = {"job": "17.0", "rank": 1, "what": "step 3", "seconds": 601.0}
    write_json(run.attempt(1).hang, hang)
    write_json(run.mistake("preprocess"), {"job": "16_0.0", "message": "not UTF-8"})
    decisions.record(run, "17.0", "train", Decision(True, "hang (rank 1, step 3)"))
    seen = snapshot(run)
    noted = run.attempt(1).hang.stat().st_mtime
    assert seen.attempts[0].hang == Hang(1, "step 3", 601.0, noted)
    written = run.mistake("preprocess").stat().st_mtime
    assert seen.mistakes == {"preprocess": Mistake("16_0.0", "not UTF-8", written)}
    assert [row["reason"] for row in seen.decisions] == ["hang (rank 1, step 3)"]


def test_why_training_stopped_by_the_decision_else_by_its_end_else_by_nothing(run: Run) -> None:
    (run.attempt(1).root).mkdir(parents=True)
    assert snapshot(run).stopped == "it ended without recording a reason (killed?)"
    attempt(run, 1, 0, range(1, 3), outcome="interrupted", reason="SIGTERM", step=2)
    assert snapshot(run).stopped == "interrupted (SIGTERM)"
    decisions.record(run, "17.0", "train", Decision(False, "stopped: STOP file"))
    assert (snapshot(run).verdict, snapshot(run).stopped) == ("STOP file", "STOP file")
    write_json(run.jobs, {"time": time.time(), "slurm": {"train": "18"}})
    assert snapshot(run).verdict is None


def test_a_snapshot_does_not_change(run: Run) -> None:
    seen = snapshot(run)
    attempt(run, 1, 0, range(1, 3))
    assert not seen.attempts
    with pytest.raises(FrozenInstanceError):
        seen.recent = ()  # type: ignore[misc]


def test_a_damaged_start_leaves_out_its_attempt_and_says_so(run: Run) -> None:
    attempt(run, 1, 0, range(1, 3))
    attempt(run, 2, 2, range(3, 5))
    run.attempt(2).start.write_text("{")
    seen = snapshot(run)
    assert seen.steps.step.tolist() == [1, 2]
    (damage,) = seen.damage
    assert damage.startswith(f"{run.attempt(2).root}: JSONDecodeError")
    with pytest.raises(CheckpointError, match=r"start\.json: damaged .*; restore it from a backup"):
        records.start(run.attempt(2))
