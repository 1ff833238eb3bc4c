"""The attempts of a run as a table of Markdown: when each began, from which step, and how it ended."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kit.store import records
from kit.store.files import read_json
from kit.tracking import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run

_LISTED = 20  # the last ones: each attempt writes the whole table


def table(run: Run, attempt: Attempt, state: str) -> str:
    """The attempts up to one, whose state is given: it is running, or how it ended."""
    attempts = [one for one in ledger.attempts(run) if one.number <= attempt.number]
    decided = {job: row["reason"] for job, row in decisions(run).items()}
    head = "| attempt | began | from step | ranks | node | ended |\n| --- | --- | --- | --- | --- | --- |"
    rows = [
        _row(one, decided, state if one.number == attempt.number else None)
        for one in attempts[-_LISTED:]
    ]
    hidden = len(attempts) - len(rows)
    note = [f"\n{hidden:,} earlier ones are in `attempts/` of the run directory."] if hidden else []
    return "\n".join([head, *rows, *note])


def decisions(run: Run) -> dict[str, dict[str, Any]]:
    """The last decision on each job of a run that has ended, by the token of its start."""
    return {row["job"]: row for row in _lines(run)}


def _row(attempt: Attempt, decided: dict[str, str], ended: str | None) -> str:
    start = records.start(attempt)
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start["time"]))
    reason = ended or _reason(attempt, decided.get(start["job"], ""))
    cells = [
        attempt.number,
        began,
        f"{start['from_step']:,}",
        start["ranks"],
        start["node"],
        reason,
    ]
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _reason(attempt: Attempt, decision: str) -> str:
    """How an attempt ended: by its own record, by the decision on its job, or by its hang."""
    if (end := records.end(attempt)) is not None:
        reason = f": {end['reason']}" if end["reason"] else ""
        return f"{end['outcome']} at step {end['step']:,}{reason}"
    if decision:
        return decision
    if attempt.hang.is_file():
        note: dict[str, Any] = read_json(attempt.hang)
        return f"hang (rank {note['rank']}, {note['what']})"
    return "no record of its end"


def _lines(run: Run) -> Iterator[dict[str, Any]]:
    if run.requeues.is_file():
        for line in run.requeues.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # cut by a crash
                yield json.loads(line)
