"""Verdicts on the state of a run: its memory by part, saving it, and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.output.quantities import duration, size
from kit.relay.acceptance.verdicts import Verdict
from kit.store import records
from kit.tracking import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run
    from kit.tracking.rows import Row

# The plan's parts of what is measured together.
_PLANNED = {
    "weights": ("weights",),
    "gradients": ("gradients",),
    "optimizer": ("optimizer",),
    "activations": ("activations", "around them"),
    "buffers": ("buckets", "backward pass", "logits"),
}


def memory_by_part(found: dict[str, Any], planned: dict[str, Any]) -> Verdict:
    """Bytes of each part of the rank that has most, beside the plan's."""
    plan = {name: one["value"] for name, one in planned["memory"]["parts"].items()}
    parts = {
        name: _part(found["memory"][name], sum(plan[one] for one in names))
        for name, names in _PLANNED.items()
    }
    words = [f"{name} {_beside(one)}" for name, one in parts.items() if one["bytes"] is not None]
    if unknown := [name for name, one in parts.items() if one["bytes"] is None]:
        words.append(f"not {', '.join(unknown)}: torch counts allocations on a GPU only")
    facts = {"parts": parts, "other": found["memory"]["other"], "planned": plan}
    return Verdict("memory by part", "ok", "; ".join(words), facts)


def _part(measured: float | None, planned: float) -> dict[str, float | None]:
    off = measured / planned - 1 if measured is not None and planned else None
    return {"bytes": measured, "plan": planned, "off": off}


def _beside(part: dict[str, Any]) -> str:
    off = "" if part["off"] is None else f", {part['off']:+.1%}"
    return f"{size(part['bytes'])} (plan {size(part['plan'])}{off})"


def save(run: Run, found: dict[str, Any]) -> Verdict:
    """The slowest save of the run, and how fast its two parts are: the copy to the host, and the files."""
    rows = [row for row in _rows(run) if row["kind"] == "checkpoint"]
    slowest = max(rows, key=lambda row: row["seconds"])
    blocked = max(row["blocked"] for row in rows)
    written = found["written_bytes"]
    copied, files = written / found["copy_seconds"], written / found["write_seconds"]
    words = (
        f"{size(slowest['bytes'])} in {duration(slowest['seconds'])}, blocked for {duration(blocked)}; "
        f"to the host at {_rate(copied)} (the first time in {duration(found['first_copy_seconds'])}), "
        f"written and synced at {_rate(files)}"
    )
    facts = {
        "seconds": slowest["seconds"],
        "blocked": blocked,
        "bytes": slowest["bytes"],
        "copy_bytes_per_second": copied,
        "first_copy_seconds": found["first_copy_seconds"],
        "copy_seconds": found["copy_seconds"],
        "write_bytes_per_second": files,
        "write_seconds": found["write_seconds"],
    }
    return Verdict("save", "ok", words, facts)


def load(found: dict[str, Any], resumed: Run | None) -> Verdict:
    """Verifying, building and reading, each with its rate; and the slowest resume of an interrupted run."""
    verified = found["checkpoint_bytes"] / found["verify_seconds"]
    read = found["read_bytes"] / found["read_seconds"]
    words = (
        f"verified at {_rate(verified)} ({duration(found['verify_seconds'])}), model built in "
        f"{duration(found['build_seconds'])}, read at {_rate(read)} ({duration(found['read_seconds'])})"
    )
    keys = ("verify_seconds", "build_seconds", "read_seconds", "read_bytes", "checkpoint_bytes")
    facts = {key: found[key] for key in keys}
    facts |= {"verify_bytes_per_second": verified, "read_bytes_per_second": read}
    if resumed is not None:
        facts["resume_seconds"] = _slowest_resume(resumed)
        words += f"; the slowest resume took {duration(facts['resume_seconds'])}"
    return Verdict("load", "ok", words, facts)


def _rows(run: Run) -> Iterator[Row]:
    for attempt in ledger.attempts(run):
        yield from ledger.rows(attempt)


def _slowest_resume(run: Run) -> float:
    """Seconds from the end of imports to the first row: verifying, meeting, building the model, loading."""
    slowest = 0.0
    for attempt in ledger.attempts(run)[1:]:
        first = next((row for row in ledger.rows(attempt) if row["kind"] == "attempt"), None)
        began = records.start(attempt).get("times", {}).get("imported")
        if first is not None and began is not None:
            slowest = max(slowest, first["time"] - began)
    return slowest


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e6:,.0f} MB/s"
