"""Publishing a run once: everything that MLflow lacks, and the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.output import redaction
from kit.tracking import ledger, sqlite
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import cursor as cursors
from kit.tracking.mlflow import results, status, tags
from kit.tracking.mlflow.address import sqlite_file, tracking_uri
from kit.tracking.mlflow.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.mlflow.status import Status


def publish(run: Run, recipe: Recipe, value: Status | None = None) -> str | None:
    """Send all that MLflow lacks of a run, and set its status; returns a problem in one line, or None.

    `value` is the status if the caller knows more than the files of the run.
    """
    if _is_up_to_date(run, recipe, value or status.of_files(run)):
        return None
    try:
        store = Store(run, recipe)
        store.send_rows()
        store.send_devices()
        store.send_tags()
        settle(store, (lambda: value) if value else (lambda: status.of_files(run)))
        return _with_uri(recipe, results.send(store, run, recipe))
    except Exception as error:  # MLflow may raise anything
        return _with_uri(recipe, door.brief(error))


def publish_results(run: Run, recipe: Recipe) -> None:
    """Publish a run from one of its jobs after the training; a problem is a warning.

    Nothing is done for a job on one checkpoint, while the training itself publishes, or if the recipe
    leaves publishing to `watch sync`.
    """
    tracking = recipe.tracking
    if run.job_at is not None or tracking.mlflow is None or tracking.mlflow_by == "sync":
        return
    if problem := publish(run, recipe):
        door.warn(f"{problem}; once it answers, publish with: ekiden watch sync {run.root}")


def settle(store: Store, current: Callable[[], Status]) -> None:
    """Set the status, and again if the files have changed meanwhile: another publisher may have set it."""
    value = current()
    store.set_status(value)
    if current() != value:
        store.refresh()
        store.set_status(current())


def _with_uri(recipe: Recipe, problem: str | None) -> str | None:
    return problem and f"{redaction.without_credentials(tracking_uri(recipe))}: {problem}"


def _is_up_to_date(run: Run, recipe: Recipe, value: str) -> bool:
    """Whether a sqlite file has everything, which needs no import of MLflow."""
    cursor, store = cursors.read(run, recipe), sqlite_file(recipe)
    if store is None or "experiment" not in cursor or not sqlite.has_run(store, cursor["run"]):
        return False
    if (cursor.get("status"), cursor.get("sending", [])) != (value, []):
        return False
    sent = cursor.get("sent", {})
    after = max(sent.values(), default=0) - 1
    if any(row["step"] > sent.get(row["kind"], -1) for row in ledger.canonical(run, after)):
        return False
    contents = tags.contents(run, recipe) | results.contents(run, recipe)
    return all(cursors.holds(cursor, name, content) for name, content in contents.items())
