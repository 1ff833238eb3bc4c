"""The runs of a workspace: the state of each, and how far its training is.

    runs.show(runs.facts(runs.workspaces(Path("work/demo"))))

What several runs share, corpus, tokenizer and tokens, is looked at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, EkidenError
from kit.relay import job_status, stage_status, status
from kit.relay.resolve import read_run
from kit.relay.snapshot import snapshot
from kit.relay.stages import stages_of, training
from kit.store.paths import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.relay.snapshot import Snapshot
    from kit.store.units import Survey

_ALL = Path("work")  # where workspaces lie, if none is named
_UNREADABLE = "unreadable"


def workspaces(given: Path | None) -> list[Workspace]:
    """The workspace of that path; without one the current directory, or else all in ./work.

    Raises ConfigError where there is none.
    """
    if given is not None:
        if not (given / "runs").is_dir():
            what = "is no workspace, it has no folder runs" if given.is_dir() else "is no folder"
            raise ConfigError(f"{given}: {what}; name a workspace, as work/demo")
        return [Workspace(given)]
    if Path("runs").is_dir():
        return [Workspace(Path())]
    found = [Workspace(path.parent) for path in sorted(_ALL.glob("*/runs"))]
    if not found:
        raise ConfigError(
            f"{Path.cwd()}: is no workspace, and there is none in {_ALL}; name one, as work/demo"
        )
    return found


def facts(found: Sequence[Workspace]) -> list[dict[str, Any]]:
    """Of each run: its directory, its state and the stage that is in it, the reason, its training."""
    surveys: dict[str, Survey] = {}
    return [_facts(run, surveys) for one in found for run in one.runs() if run.root.is_dir()]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each, and one for the reason of its state."""
    if not rows:
        print("no runs")
        return
    states = [_words(row) for row in rows]
    wide = max(len(row["run"]) for row in rows), max(map(len, states))
    for row, state in zip(rows, states, strict=True):
        progress = status.progress(row["training"]) if row["training"] else ""
        print(f"{row['run']:{wide[0]}}  {state:{wide[1]}}  {progress}".rstrip())
        if row["reason"]:
            print(f"  {row['reason']}")


def _words(row: dict[str, Any]) -> str:
    return str(row["state"] if row["stage"] is None else f"{row['stage']}: {row['state']}")


def _facts(run: Run, surveys: dict[str, Survey]) -> dict[str, Any]:
    row = {"name": run.root.name, "run": str(run.root), "workspace": str(run.root.parents[1])}
    try:
        recipe, seen = read_run(run.root).recipe, snapshot(run)
        state = _state(seen, recipe, surveys)
        more = training(seen, recipe)
    except (EkidenError, OSError, ValueError, KeyError) as error:  # one of them hides no other
        why = " ".join(str(error).split())
        return {**row, "state": _UNREADABLE, "stage": None, "reason": why, "training": None}
    return {**row, **state, "training": {**more, "state": state["state"]}}


def _state(seen: Snapshot, recipe: Recipe, surveys: dict[str, Survey]) -> dict[str, Any]:
    """That of the first stage that is not done."""
    found = {}
    for stage in stages_of(recipe):
        key = stage.name if stage.of_run else f"{stage.name} {_shared(recipe)}"
        if stage.of_run or key not in surveys:
            surveys[key] = stage.survey(seen.run, recipe)
        found[stage.name] = surveys[key]
    for one in stage_status.of_chain(job_status.read(seen), found):
        if one.state != "done":
            return {"state": one.state, "stage": one.name, "reason": one.reason}
    return {"state": "done", "stage": None, "reason": None}


def _shared(recipe: Recipe) -> str:
    """What decides the files of a workspace."""
    parts = (recipe.corpus, recipe.tokenizer, recipe.tokens)
    return "\n".join([recipe.workspace, *(part.model_dump_json() for part in parts)])
