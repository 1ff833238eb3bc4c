"""What training says: the ledger in words, in its log and by the supervisor."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import view
from kit.store.units import Tally, make_units
from kit.training.journal import Journal, event_line, step_line
from tests.unit.test_log import on_terminal, unit

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run


def row_of(number: int, loss: float | None = 3.2141, seconds: float = 2.0) -> dict[str, Any]:
    return {
        "kind": "step", "attempt": 1, "step": number, "loss": loss,
        "seconds": seconds, "tokens_per_second": 20_000 / seconds,
    }  # fmt: skip


BEGIN = {
    "kind": "attempt", "attempt": 1, "step": 0, "steps": 1200, "ranks": 1,
    "parameters": 1_500_000, "training_tokens": 2_000_000,
}  # fmt: skip


def test_a_step_has_its_loss_the_rate_of_a_minute_and_the_time_left() -> None:
    pace = [(2.0, 20_000.0), (3.0, 20_000.0)]
    line = "step 500 of 1,200, loss 3.214, 8,000 tokens/s, 29 min left"
    assert step_line(row_of(500), 1200, pace) == line
    assert step_line(row_of(1200), 1200, pace) == "step 1,200 of 1,200, loss 3.214, 8,000 tokens/s"
    assert ", loss not finite, " in step_line(row_of(500, None), 1200, pace)


def test_the_first_step_and_the_last_are_told_and_one_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("kit.training.journal.time.monotonic", lambda: now)
    journal = Journal()
    journal.add(BEGIN)
    for number in range(1140, 1201):  # 2 s each
        now += 2.0
        journal.add(row_of(number, seconds=40.0 if number == 1140 else 2.0))
    _, *steps = capsys.readouterr().err.splitlines()
    told = [line.split("step ")[1].split(" of")[0] for line in steps]
    assert told == ["1,140", "1,170", "1,200"]
    assert "500 tokens/s" in steps[0]
    assert "10,000 tokens/s" in steps[2]  # the slow one is longer ago than a minute


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (BEGIN, "training starts at step 0: 1 rank, 1,500,000 parameters, 2,000,000 tokens"),
        (
            {"kind": "validation", "step": 1000, "validation_loss": 3.5, "seconds": 61.0},
            "validation at step 1,000: loss 3.500 in 61 s",
        ),
        (
            {"kind": "checkpoint", "step": 500, "bytes": 1.2e9, "seconds": 3.4, "blocked": 0.02},
            "checkpoint of step 500: 1.2 GB in 3.4 s, blocking training for 0.02 s",
        ),
        (
            {"kind": "save_failed", "step": 500, "reason": "No space left on device"},
            "checkpoint of step 500 failed: No space left on device",
        ),
        (
            {"kind": "health", "step": 7, "what": "loss nan", "action": "skip"},
            "bad step 7: loss nan; update skipped",
        ),
        (
            {"kind": "rollback", "step": 7, "what": "loss nan", "to_step": 5, "passed_over": [40, 56]},
            "bad step 7: loss nan; rolled back to step 5, 16 samples skipped",
        ),
        (
            {"kind": "amendment", "step": 5, "key": "training.steps", "old": 10, "new": 20},
            "amended: training.steps: 10 -> 20",
        ),
        ({"kind": "end", "step": 1200, "outcome": "done"}, "finished after step 1,200"),
        ({"kind": "end", "step": 12, "outcome": "interrupted"}, None),
    ],
    ids=lambda given: given["kind"] if isinstance(given, dict) else "",
)  # fmt: skip
def test_every_event_is_a_line(row: dict[str, Any], line: str | None) -> None:
    assert event_line(row) == line


def write(attempt: Attempt, *rows: dict[str, Any]) -> None:
    attempt.root.mkdir(exist_ok=True)
    with attempt.ledger.open("a") as ledger:
        ledger.writelines(json.dumps(row) + "\n" for row in rows)


def test_the_supervisor_tells_a_step_once_and_passes_on_what_rank_0_says(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_PAUSE", 0.0)
    write(run.attempt(1), BEGIN, row_of(8))
    log = run.root / "log.out"
    log.write_text("2026-11-28 01:02:03 attempt 1 rank 0: of the attempt before\n")
    told: list[str] = []
    with view.TrainingView(run, log, log.stat().st_size, told.append) as training:
        for _ in range(3):
            training.look(view.last_step(run))
        write(run.attempt(2), BEGIN | {"attempt": 2, "step": 8})
        with log.open("a") as stream:
            stream.write("2026-11-28 01:02:04 attempt 2 rank 0: importing torch\nnoise\n")
            stream.write("2026-11-28 01:02:05 attempt 2 rank 0: step 9 of 1,200, loss 3\n2026")
        for _ in range(3):
            training.look(view.last_step(run))
        assert capsys.readouterr().err == ""
        write(run.attempt(2), row_of(9) | {"attempt": 2})
        for _ in range(3):
            training.look(view.last_step(run))
    assert told == ["train: importing torch"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" train: 9 of 1,200 steps, loss 3.214")


def test_the_supervisor_shows_the_units_of_a_job_and_what_a_task_said_last(
    run: Run, tmp_path: Path
) -> None:
    units = [unit(tmp_path, name) for name in ("a", "b")]
    logs = run.job_logs("any")
    logs.mkdir(parents=True)
    (logs / "any-1_0_log.out").write_text("2026-11-28 01:02:03 any: of an earlier day\n")
    os.utime(logs / "any-1_0_log.out", (0, 0))
    tally = Tally(units)
    make_units("any", units[:1])

    def work() -> None:
        with view.units(run, "any", tally) as look:
            look()

    assert "an earlier day" not in on_terminal(work)
    (logs / "any-0_0_log.out").write_text("2026-11-28 01:02:03 any: b.txt: 2 MB of 9 MB\nnot yet")
    os.utime(logs / "any-0_0_log.out", (2e9, 2e9))
    assert re.search(r"any .*1 of 2 units.*, b\.txt: 2 MB of 9 MB\b", on_terminal(work))
