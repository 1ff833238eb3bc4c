"""A run that goes on elsewhere: its ledger, log, checkpoints and status say what differs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from kit.cluster.snapshot import snapshot
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.relay import resolve, stages
from kit.run import directory
from kit.store.files import read_json, write_json
from kit.tracking import ledger
from kit.training import checkpoint
from kit.training.interruption import SIGNALS
from tests.relay import DEMO, TINY, copy_of

from .test_fork_effects import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run
    from kit.tracking.rows import AttemptRow

CHANGED = "ONEDNN_MAX_CPU_ISA"


@pytest.fixture
def run(alone: None, tokens: Path, tmp_path: Path) -> Iterator[Run]:
    """A run whose first attempt has ended at its second step."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCONT)}
    workspace = copy_of(tokens, tmp_path)
    project = resolve.load(DEMO, [f"workspace={workspace}", "training.steps=2", *TINY])
    made = directory.prepare(project)
    train(made)
    yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)


def go_on(run: Run) -> AttemptRow:
    """Train one step more, in another attempt; returns its first row."""
    recipe = read_json(run.recipe)
    recipe["training"]["steps"] += 1
    write_json(run.recipe, recipe)
    train(run)
    row = next(ledger.rows(ledger.attempts(run)[-1]))
    assert row["kind"] == "attempt"
    return row


def shown(run: Run) -> list[int]:
    """The attempts that `status` names."""
    recipe = read_resolved(run.recipe, Recipe)
    found = stages.training(snapshot(run), recipe)["inexact"]
    return [one["attempt"] for one in found]


def test_a_resume_elsewhere_names_what_differs_and_one_in_place_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(CHANGED, raising=False)
    assert go_on(run)["inexact"] == []
    assert "bit-equality" not in caplog.text
    monkeypatch.setenv(CHANGED, "AVX2")
    row = go_on(run)
    assert row["inexact"] == [f"{CHANGED} not set -> AVX2"]
    assert caplog.messages.count(f"bit-equality is off: {CHANGED} not set -> AVX2") == 1
    assert checkpoint.committed(run)[0].record["numerics"] == row["numerics"]
    assert go_on(run)["inexact"] == []  # it goes on from what was saved there
    assert shown(run) == [3]


def test_a_run_of_an_earlier_version_is_resumed_and_shown_without_complaint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = checkpoint.committed(run)[0].folder / checkpoint.RECORD
    later = ("numerics", "xxh3")
    old = {key: value for key, value in read_json(record).items() if key not in later}
    write_json(record, old)
    first = run.attempt(1).ledger
    rows = [*ledger.rows(run.attempt(1))]
    lines = [{key: row[key] for key in row if key not in ("numerics", "inexact")} for row in rows]  # type: ignore[literal-required]
    first.write_text("".join(f"{ledger._encoder.encode(line)}\n" for line in lines))
    monkeypatch.setenv(CHANGED, "AVX2")
    assert go_on(run)["inexact"] == []  # nothing is known of what it was saved on but the placement
    assert shown(run) == []
