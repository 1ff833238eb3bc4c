"""Publishing a run to MLflow from another machine than its jobs: a login node, say.

    for line in mlflow_sync.follow(mlflow_sync.tracked(project)):
        print(line)

It sends what the process beside the training would send, and knows from the queue more than the files tell:
a job that was killed as a whole could not say so.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kit.cluster.snapshot import snapshot
from kit.config.recipe import Recipe, Tracking
from kit.config.section import read_resolved, validate
from kit.errors import ConfigError, JobFailed, StageError
from kit.output import redaction
from kit.output.quantities import count
from kit.relay import job_status
from kit.tokenizer import candidates
from kit.tracking.mlflow import status
from kit.tracking.mlflow.address import tracking_uri
from kit.tracking.mlflow.process import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.run import Project
    from kit.store.paths import Run
    from kit.store.units import Unit
    from kit.tracking.mlflow.status import Status

_PAUSE = 10.0  # seconds between batches
_LOOK = 60.0  # seconds between questions to the queue
_OF_JOB: dict[str, Status] = {
    "queued": "SCHEDULED", "failed": "FAILED",
    "cancelled": "KILLED", "stopped": "KILLED", "interrupted": "KILLED",
}  # fmt: skip


def tracked(project: Project, to: str | None = None) -> Project:
    """The run with the recipe of its directory, or with `to` as its server.

    Raises ConfigError if there is no run, or no server.
    """
    run = project.run
    if not (run.recipe.is_file() and run.identity.is_file()):
        raise ConfigError(f"{run.root}: no such run yet; submit it first")
    recipe = read_resolved(run.recipe, Recipe)
    if to is not None:
        place = f"--to {to}"
        tracking = validate(Tracking, recipe.tracking.model_dump() | {"mlflow": to}, place, {})
        recipe = recipe.model_copy(update={"tracking": tracking})
    if recipe.tracking.mlflow is None:
        raise ConfigError(
            f"{run.root}: tracking.mlflow=null, so nothing is published; give --to URI, or set it for good "
            f"with: ekiden train amend {run.root} tracking.mlflow=URI"
        )
    return replace(project, recipe=recipe)


def once(project: Project) -> str:
    """Publish what MLflow lacks; returns a line about it. Raises JobFailed if MLflow does not take it."""
    run, recipe = project.run, project.recipe
    publisher, sync = _publisher(run, recipe)
    problem = _candidates(run, recipe) or publisher.send()
    if problem:
        raise JobFailed(f"{_address(recipe)}: {problem}; nothing is lost, try again later")
    return _line(recipe, publisher.sent, sync.status())


def follow(project: Project) -> Iterator[str]:
    """Publish until training has ended for good, with a line about each change; problems are retried."""
    run, recipe = project.run, project.recipe
    publisher, sync = _publisher(run, recipe)
    told: tuple[Status | None, str | None] = (None, _candidates(run, recipe))
    while True:
        before = publisher.sent
        problem, now = publisher.send(), sync.status()
        if publisher.sent > before or (now, problem) != told:
            told = (now, problem)
            done = _line(recipe, publisher.sent - before, now)
            yield f"{_address(recipe)}: {problem}; trying again" if problem else done
        if problem is None and now in status.ENDED:
            return
        time.sleep(_PAUSE)


class _Status:
    """The status of a run from its files, corrected by the queue if its job is no longer there."""

    def __init__(self, run: Run) -> None:
        self._run, self._looked = run, 0.0
        self._of_job: Status | None = None

    def status(self) -> Status:
        """The status now; the queue is asked once a minute at most."""
        found = status.of_files(self._run)
        if found in status.ENDED:
            return found
        if time.monotonic() - self._looked > _LOOK or not self._looked:
            self._looked = time.monotonic()
            seen = job_status.read(snapshot(self._run, curve=False))
            job = job_status.of_stage(seen, "train")
            self._of_job = _OF_JOB.get(job.state) if job else None
        return self._of_job or found


def _publisher(run: Run, recipe: Recipe) -> tuple[Publisher, _Status]:
    sync = _Status(run)
    return Publisher(run, recipe, sync.status), sync


def _candidates(run: Run, recipe: Recipe) -> str | None:
    """Publish the candidates for the tokenizer that are done; returns a problem in one line, or None."""
    problems = (candidates.publish(recipe, unit) for unit in _done(run, recipe))
    return next((problem for problem in problems if problem), None)


def _done(run: Run, recipe: Recipe) -> list[Unit]:
    try:
        return [one for one in candidates.units(run, recipe) if one.state() == "done"]
    except StageError:  # words are not counted yet
        return []


def _line(recipe: Recipe, sent: int, now: Status) -> str:
    return f"{_address(recipe)}: {count(sent, 'row')} sent, status {now}"


def _address(recipe: Recipe) -> str:
    return redaction.without_credentials(tracking_uri(recipe))
