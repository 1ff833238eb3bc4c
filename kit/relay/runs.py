"""The runs of a workspace, with state and progress.

    runs.show(runs.facts(runs.workspaces(Path("work/demo"))))

Stages that several runs share (corpus, tokenizer, tokens) are surveyed once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster.snapshot import Snapshot, snapshot
from kit.errors import ConfigError, EkidenError
from kit.relay import job_status, queue_answer, stage_status, status
from kit.relay.resolve import read_run
from kit.relay.stages import TRAIN, stages_of, training
from kit.run.directory import is_rehearsal
from kit.store import look
from kit.store.paths import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.relay.queue_answer import QueueAnswer
    from kit.store.units import Survey

_DEFAULT = Path("work")  # the folder of workspaces, if none is named
_UNREADABLE = "unreadable"
_UNREADABLE_BY = (EkidenError, OSError, ValueError, KeyError)


def workspaces(path: Path | None) -> list[Workspace]:
    """The workspace at `path`; by default the current directory if it is one, else all in ./work.

    Raises ConfigError if there is none.
    """
    if path is not None:
        if not (path / "runs").is_dir():
            raise ConfigError(f"{path}: {_no_workspace(path)}")
        return [Workspace(path)]
    if Path("runs").is_dir():
        return [Workspace(Path())]
    in_default = [Workspace(path.parent) for path in sorted(_DEFAULT.glob("*/runs"))]
    if not in_default:
        raise ConfigError(
            f"{Path.cwd()}: not a workspace, and none in {_DEFAULT}; name one, such as work/demo"
        )
    return in_default


def _no_workspace(path: Path) -> str:
    """Why a path is none, and what to name instead."""
    above = [one for one in path.parents[:2] if (one / "runs").is_dir()]  # of `runs`, or of a run
    workspace = above[0] if above else "work/demo"
    problem = "not a workspace, it has no folder runs" if path.is_dir() else "no such folder"
    return f"{problem}; name a workspace, such as {workspace}"


def facts(workspaces: Sequence[Workspace]) -> list[dict[str, Any]]:
    """The runs as plain values: directory, state, the stage in that state, reason, training progress."""
    runs = [run for one in workspaces for run in one.runs() if run.root.is_dir()]
    seen = {run: _read(run) for run in runs}
    # One question for all runs, and not one for each.
    queue = queue_answer.ask([one for one in seen.values() if isinstance(one, Snapshot)])
    surveys: dict[str, Survey] = {}
    with look.once():
        return [_facts(run, seen[run], queue, surveys) for run in runs]


def _read(run: Run) -> Snapshot | Exception:
    """The files of a run, or why they cannot be read: one bad run must not hide the others."""
    try:
        return snapshot(run)
    except _UNREADABLE_BY as error:
        return error


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each run, and one for the reason of its state."""
    if not rows:
        print("no runs")
        return
    states = [_state_text(row) for row in rows]
    widths = max(len(row["run"]) for row in rows), max(map(len, states))
    for row, state in zip(rows, states, strict=True):
        progress = status.progress(row["training"]) if row["training"] else ""
        print(f"{row['run']:{widths[0]}}  {state:{widths[1]}}  {progress}".rstrip())
        if row["reason"]:
            print(f"  {row['reason']}")


def _state_text(row: dict[str, Any]) -> str:
    return str(row["state"] if row["stage"] is None else f"{row['stage']}: {row['state']}")


def _facts(
    run: Run, seen: Snapshot | Exception, queue: QueueAnswer, surveys: dict[str, Survey]
) -> dict[str, Any]:
    row = {"name": run.root.name, "run": str(run.root), "workspace": str(run.root.parents[1])}
    try:
        if isinstance(seen, Exception):
            raise seen
        recipe = read_run(run.root).recipe
        state = _state(seen, recipe, queue, surveys)
        more = training(seen, recipe)
    except _UNREADABLE_BY as error:
        reason = " ".join(str(error).split())
        return {**row, "state": _UNREADABLE, "stage": None, "reason": reason, "training": None}
    return {**row, **state, "training": {**more, "state": state["state"]}}


def _state(
    seen: Snapshot, recipe: Recipe, queue: QueueAnswer, surveys: dict[str, Survey]
) -> dict[str, Any]:
    """The state of the first unfinished stage; a rehearsal has no stage but the training."""
    by_stage = {}
    for stage in stages_of(recipe, TRAIN.command if is_rehearsal(seen.run) else None):
        key = stage.name if stage.of_run else f"{stage.name} {_shared(recipe)}"
        if stage.of_run or key not in surveys:
            surveys[key] = stage.survey(seen.run, recipe)
        by_stage[stage.name] = surveys[key]
    statuses = stage_status.of_chain(job_status.read(seen, queue), by_stage)
    for stage_now in status.needed(statuses):
        if stage_now.state != "done":
            return {"state": stage_now.state, "stage": stage_now.name, "reason": stage_now.reason}
    return {"state": "done", "stage": None, "reason": None}


def _shared(recipe: Recipe) -> str:
    """A key for the part of a recipe that decides the files of its workspace."""

    parts = (recipe.corpus, recipe.tokenizer, recipe.tokens)
    return "\n".join([recipe.workspace, *(part.model_dump_json() for part in parts)])
