"""The tags of a run: its code, jobs, nodes, attempts, checkpoints, and its tokenizer's candidate."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import StageError
from kit.run import commit
from kit.store import manifest, records
from kit.store.files import read_json
from kit.store.job_tokens import job_of
from kit.store.paths import Workspace
from kit.tracking import ledger
from kit.tracking.mlflow.candidates import candidate_identity
from kit.tracking.mlflow.status import end_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kit.config.recipe import Recipe
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run

_MAX = 5000  # characters of a tag: the limit of MLflow before 3.0
_KEY = "ekiden."
PREFIX = "tag "


def contents(run: Run, recipe: Recipe) -> dict[str, str]:
    """The tags of a run, by the name that the cursor notes: `PREFIX` and their own."""
    return {f"{PREFIX}{name}": value for name, value in of_run(run, recipe).items()}


def of_run(run: Run, recipe: Recipe) -> dict[str, str]:
    """The tags of a run, by name. Some appear in time; none goes away."""
    attempts = ledger.attempts(run)
    starts = [records.start(attempt) for attempt in attempts]
    tags = {
        "directory": str(run.root),
        "checkpoints": str(run.checkpoints),
        "code": run.code.resolve().name,
        "jobs": _shortened(_unique(job_of(start["job"]) for start in starts), ", "),
        "nodes": _shortened(_unique(start.get("nodes", start["node"]) for start in starts), ", "),
        "attempts": _shortened([_attempt_line(attempt) for attempt in attempts], "\n"),
    }
    if run.origin.is_file():
        origin = read_json(run.origin)
        tags["fork"] = f"{origin.get('run')} at step {origin.get('step')}"
    with contextlib.suppress(StageError, OSError):
        tags |= _tokenizer(Workspace(Path(recipe.workspace)))
    named = {f"{_KEY}{name}": value for name, value in tags.items() if value}
    if of_code := commit.read(run.code):
        named["mlflow.source.git.commit"] = of_code
    return named


def _tokenizer(workspace: Workspace) -> dict[str, str]:
    """The chosen candidate, and the identity of its run in MLflow (tag `ekiden.candidate` there)."""
    name = manifest.read(workspace.tokenizer, "jobs.tokenizer").get("candidate")
    if name is None:
        return {}
    return {"tokenizer": name, "tokenizer_run": candidate_identity(workspace.candidate(name))}


def _attempt_line(attempt: Attempt) -> str:
    """Where an attempt ran, and how it ended."""
    start, end = records.start(attempt), end_of(attempt)
    place = (
        f"{attempt.number}: job {start['job']} on {start['node']}, from step {start['from_step']}"
    )
    if end is None:
        return place
    reason = f": {end['reason']}" if end["reason"] else ""
    return f"{place} to {end['step']}, {end['outcome']}{reason}"


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _shortened(parts: list[str], between: str) -> str:
    """The parts in one text; of a long list the last, and how many are left out."""
    for left_out in range(len(parts) + 1):
        head = [f"({left_out} earlier ones left out)"] if left_out else []
        text = between.join([*head, *parts[left_out:]])
        if len(text) <= _MAX:
            return text
    return ""
