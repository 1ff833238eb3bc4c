"""The scores of a release in the forms that others read.

    found = results.of(source, weights, scored=True)
    results.write(folder, found)                    # scores.jsonl and .eval_results/ of an export

`.eval_results/*.yaml` feeds the Hub's pages of models and its leaderboards, and is made by a class of
huggingface_hub. Its older form, `model-index`, is metadata of the model card, which reads scores.jsonl.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from kit.output.quantities import count
from kit.release import evaluate
from kit.release.tasks import scoring
from kit.store.files import atomic, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kit.release.source import ReleaseSource
    from kit.tracking.scores import ScoreRow

LEDGER, FOR_HUB = "scores.jsonl", ".eval_results"
_HARNESS = "https://github.com/EleutherAI/lm-evaluation-harness"


def of(source: ReleaseSource, weights: Mapping[str, str], *, scored: bool) -> list[ScoreRow]:
    """All scores of these weights: on the held-out documents if they are `scored`, and on tasks."""
    own = evaluate.rows(source, weights) if scored else []
    return [*own, *scoring.rows(source, weights)]


def write(folder: Path, found: Sequence[ScoreRow]) -> None:
    """Write the scores into an export; `.eval_results` has those of tasks that the Hub knows."""
    shutil.rmtree(folder / FOR_HUB, ignore_errors=True)
    if not found:
        return
    with atomic(folder / LEDGER, "w") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    for row in found:
        if row.get("main") and "hub" in row:
            (folder / FOR_HUB).mkdir(exist_ok=True)
            text = yaml.safe_dump(for_hub(row), allow_unicode=True, sort_keys=False)
            write_text(folder / FOR_HUB / f"{row['task']}.yaml", text)


def for_hub(row: ScoreRow) -> list[dict[str, Any]]:
    """The content of a file of `.eval_results` for the score of a task that the Hub knows."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    dataset, task = row["hub"]
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=task,
        value=row["value"],
        date=date(row),
        source_url=_HARNESS,
        source_name=row["harness"],
        notes=notes(row),
    )
    entries: list[dict[str, Any]] = eval_result_entries_to_yaml([entry])
    return entries


def date(row: ScoreRow) -> str:
    """The day of an evaluation, in UTC."""
    return datetime.fromtimestamp(row["time"], UTC).date().isoformat()


def notes(row: ScoreRow) -> str:
    """How a score was measured, in one line."""
    shots = f"{row['shots']}-shot" if "shots" in row else None
    examples = count(row["examples"], "example") if "examples" in row else None
    version = f"version {row['version']} of the task" if row.get("version") else None
    text = f"{row['text']} text" if "text" in row else None
    error = f"standard error {row['stderr']:.4f}" if "stderr" in row else None
    step = f"step {row['step']}"
    data = f"data {row['data']}"
    parts = (row["metric"], shots, examples, text, error, row.get("harness"), version, data, step)
    return ", ".join(filter(None, parts))
