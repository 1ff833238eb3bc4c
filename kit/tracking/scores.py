"""The ledger of evaluations: a row for each score of a checkpoint, beside the ledgers of the training.

    scores.add(run, rows)          # by a job of `evaluate`
    scores.current(run)            # the scores that count, by step

Rows are appended. Of a step count those of the weights that were scored last: a rollback may have replaced
the checkpoint of a step. Of these, the last row of each task and metric counts.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from kit.output import program
from kit.store.files import append_line, read_json
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from kit.store.paths import Run

HELD_OUT = "held-out"  # in place of a task: the documents that the corpus holds out


class ScoreRow(TypedDict):
    """A score of a checkpoint."""

    kind: Literal["score"]
    time: float  # Unix, of the evaluation
    step: int
    checkpoint: str
    weights: str  # hash
    dtype: str
    task: str
    metric: str
    value: float
    data: str  # hash of the documents or examples
    stderr: NotRequired[float]
    filter: NotRequired[str]  # of the answers, as the task names it
    main: NotRequired[bool]  # the metric by which the task is known
    text: NotRequired[Literal["segmented", "raw"]]
    version: NotRequired[str]  # that the task gives itself
    definition: NotRequired[str]  # hash of the task's files
    harness: NotRequired[str]  # lm-eval, and its version
    shots: NotRequired[int]
    examples: NotRequired[int]
    hub: NotRequired[list[str]]  # dataset on the Hub, and the name of the task there


def add(run: Run, rows: Iterable[ScoreRow]) -> None:
    """Append rows to the ledger of evaluations."""
    run.scores.parent.mkdir(exist_ok=True)
    for row in rows:
        append_line(run.scores, json.dumps(row, ensure_ascii=False, allow_nan=False))


def rows(run: Run) -> Iterator[ScoreRow]:
    """All rows, in the order of writing; a line cut off by a crash is skipped."""
    if not run.scores.is_file():
        return
    for line in run.scores.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def current(run: Run) -> list[ScoreRow]:
    """The scores that count, by step, in the order of writing."""
    found: dict[tuple[object, ...], ScoreRow] = {}
    weights: dict[int, str] = {}
    for row in rows(run):
        weights[row["step"]] = row["weights"]
        key = (row["step"], row["task"], row.get("text"), row["metric"], row.get("filter"))
        found.pop(key, None)
        found[key] = row
    kept = [row for row in found.values() if row["weights"] == weights[row["step"]]]
    return sorted(kept, key=lambda row: row["step"])


def time_of(folder: Path) -> float:
    """The Unix time at which the scores of a folder were made."""
    recorded = read_json(folder / MANIFEST).get("time")
    return float(recorded) if recorded else (folder / MANIFEST).stat().st_mtime


def column(row: ScoreRow) -> str:
    """The name of a score in a table, of a metric in MLflow: task, form of the text, metric, filter."""
    raw = "raw" if row.get("text") == "raw" else None
    return "/".join(filter(None, (row["task"], raw, row["metric"], row.get("filter"))))


def main(found: Sequence[ScoreRow]) -> list[ScoreRow]:
    """The main metric of each task."""
    return [row for row in found if row.get("main")]


def lines(found: Sequence[ScoreRow]) -> list[str]:
    """Scores as a table: a line for each step, a column for each score."""
    if not found:
        evaluate = program.command("evaluate", "run")
        return [f"no scores yet; type {evaluate}, with --step all for every checkpoint"]
    names = [*dict.fromkeys(map(column, found))]
    steps: dict[int, dict[str, str]] = {}
    for row in found:
        steps.setdefault(row["step"], {})[column(row)] = f"{row['value']:.4g}"
    width = max(len("step"), *(len(f"{step:,}") for step in steps))
    head = "  ".join([f"{'step':>{width}}", *names])
    return [
        head,
        *(
            "  ".join(
                [f"{step:{width},}", *(f"{of.get(name, '-'):>{len(name)}}" for name in names)]
            )
            for step, of in steps.items()
        ),
    ]
