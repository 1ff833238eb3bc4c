"""MLflow as a view of the ledger and of a tokenizer's candidates: the only door to it.

A thread of rank 0 publishes rows in batches. A server that is down does not slow training; the rows it
missed are sent by the next attempt, or by `jobs.evaluate`. A step is published once: after a rollback,
steps that MLflow has are not sent again, since it can neither replace nor remove them.

The ledger is authoritative: a run in MLflow's trash is restored, and a deleted one is created again.
MLflow cannot change parameters: an amended one is a tag, `amended.KEY`, beside its first value.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from kit.output import log
from kit.store.files import file_hash, read_json, write_json
from kit.store.paths import Workspace
from kit.tracking import ledger, sqlite
from kit.tracking.tensorboard import scalars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.rows import CurveRow, Row

TAG, CANDIDATE_TAG = "ekiden.run", "ekiden.candidate"
_PLOT_TAG = "ekiden.plot"  # the hash of the uploaded plot
_AMENDED_TAG = "amended."  # before the name of a parameter
# Makes the page show training runs; without it some versions show traces of language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_MAX_PARAM = 6000  # characters: MLflow truncates parameters there
_BATCH = 80  # rows of at most 11 metrics: MLflow takes 1,000 metrics a call
_PAUSE = 5.0  # seconds between batches
_PATIENCE = {  # MLflow's own retries would block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # To notice when the sqlite file is removed: an open connection would keep writing to it.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Publisher:
    """Publishes the rows of the running attempt, in its own thread.

    Rows that earlier attempts could not send come first. Rows wait in memory while MLflow is down.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._run, self._recipe, self._status = run, recipe, "RUNNING"
        self._rows: deque[CurveRow] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="mlflow")
        self._thread.start()

    def add(self, row: Row) -> None:
        """Publish a row of the curve, soon."""
        if row["kind"] == "step" or row["kind"] == "validation":
            self._rows.append(row)

    def close(self, status: str, patience: float) -> bool:
        """Publish remaining rows and the status; returns whether that took at most `patience` seconds."""
        self._status = status
        self._closing.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        store: _Store | None = None
        warned = False
        while True:
            last = self._closing.wait(_PAUSE)
            # Twice: a user may have deleted the run in the meantime; then it is looked up again.
            for open_store in [store, None] if store else [None]:
                try:
                    store = self._send(open_store, last)
                    break
                except Exception as error:  # no error of MLflow may stop training
                    store, problem = None, error
            if store is None and not warned:
                log.warning(f"mlflow: {_brief(problem)}; the rows will be sent later")
                warned = True
            if last:
                return

    def _send(self, open_store: _Store | None, last: bool) -> _Store:
        """Send the waiting rows; with a new store, first all earlier rows that MLflow lacks."""
        store = open_store or _Store(self._run, self._recipe)
        if open_store is None:
            store.send(ledger.canonical(self._run, store.sent))
            store.set_status("RUNNING")
        waiting = list(self._rows)
        store.send(waiting)
        for _ in waiting:
            self._rows.popleft()
        if last:
            store.set_status(self._status)
        return store


def publish(run: Run, recipe: Recipe, status: str) -> str | None:
    """Send the rows that MLflow lacks, and set the run's status; returns a problem in one line, or None.

    `status` is one of MLflow's: RUNNING, SCHEDULED (waits for its next attempt), FINISHED,
    FAILED, KILLED (stopped by a user).
    """
    if _is_up_to_date(run, recipe, status):
        return None
    try:
        store = _Store(run, recipe)
        store.send(ledger.canonical(run, store.sent))
        store.set_status(status)
    except Exception as error:  # MLflow may raise anything
        return f"{tracking_uri(recipe)}: {_brief(error)}"
    return None


def publish_candidate(
    recipe: Recipe,
    name: str,
    identity: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    plot: Path,
) -> str | None:
    """Publish a candidate for the tokenizer as a run; returns a problem in one line, or None.

    `identity` is a hash of everything that determines the candidate: a second call with the same one
    updates the run of the first.
    """
    if recipe.tracking.mlflow is None:
        return None
    try:
        client = _client(recipe)
        run = _run(client, recipe, CANDIDATE_TAG, identity, name, params)
        _finish_candidate(client, run, metrics, plot)
    except Exception as error:  # MLflow may raise anything
        return f"{tracking_uri(recipe)}: {_brief(error)}"
    return None


def tracking_uri(recipe: Recipe) -> str:
    """The recipe's MLflow server, or the sqlite file of the workspace, as a URI."""
    assert recipe.tracking.mlflow is not None
    if recipe.tracking.mlflow == "workspace":
        return sqlite.uri_of(Workspace(Path(recipe.workspace)).mlflow)
    return recipe.tracking.mlflow


def page(run: Run, recipe: Recipe) -> str | None:
    """The path of the run's experiment, to append to the address of MLflow; None before MLflow has it.

    Without `workflowType` the page opens on its view for traces of language models.
    """
    cursor = _read_cursor(run, recipe)
    if "experiment" not in cursor:
        return None
    return f"/#/experiments/{cursor['experiment']}/runs?workflowType=machine_learning"


class _Cursor(TypedDict, total=False):
    """The rows that MLflow has, as a JSON file of the run; empty before the first."""

    run: str  # MLflow's id
    experiment: str
    uri: str | None
    sent: dict[str, int]  # the last step that it has, by kind of row
    sending: list[CurveRow]  # being sent
    status: str


class _Store:
    """A run in MLflow, with its cursor."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._path = run.mlflow_cursor
        self._client = _client(recipe)
        cursor = _read_cursor(run, recipe)
        info = _run_info(self._client, run, recipe)
        if cursor.get("run") != info.run_id:
            if cursor.get("sent"):
                _warn(
                    f"{tracking_uri(recipe)}: {run.root.name} no longer exists; creating it again"
                )
            cursor = {"run": info.run_id, "sent": {}, "sending": []}
        cursor["uri"], cursor["experiment"] = recipe.tracking.mlflow, info.experiment_id
        cursor.pop("status", None)
        self._cursor = cursor
        self._log(cursor["sending"])  # an attempt may have died before it sent these

    @property
    def sent(self) -> int:
        """The step up to which MLflow has all rows for certain: a validation follows its step."""
        return max(self._cursor["sent"].values(), default=0) - 1

    def send(self, rows: Sequence[CurveRow]) -> None:
        """Send the rows that MLflow lacks, of those given in the order of their steps."""
        sent = self._cursor["sent"]
        fresh = [row for row in rows if row["step"] > sent.get(row["kind"], -1)]
        for start in range(0, len(fresh), _BATCH):
            # Recorded before it is sent: after a crash in between the same rows go out again, equal to
            # the millisecond, and MLflow drops duplicates.
            self._cursor["sending"] = fresh[start : start + _BATCH]
            write_json(self._path, self._cursor)
            self._log(self._cursor["sending"])

    def set_status(self, status: str) -> None:
        """Set the run's status."""
        if status in ("FINISHED", "FAILED", "KILLED"):
            self._client.set_terminated(self._cursor["run"], status)
        else:
            self._client.update_run(self._cursor["run"], status=status)
        self._cursor["status"] = status
        write_json(self._path, self._cursor)

    def _log(self, rows: Sequence[CurveRow]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(tag, value, int(row["time"] * 1000), row["step"])
            for row in rows
            for tag, value in scalars(row).items()
        ]
        if metrics:
            self._client.log_batch(self._cursor["run"], metrics=metrics)
        self._cursor["sent"] |= {row["kind"]: row["step"] for row in rows}
        self._cursor["sending"] = []
        write_json(self._path, self._cursor)


def _is_up_to_date(run: Run, recipe: Recipe, status: str) -> bool:
    """Whether a sqlite file has every row and the status, which needs no import of MLflow."""
    cursor, store = _read_cursor(run, recipe), _sqlite_file(recipe)
    if store is None or "experiment" not in cursor or not sqlite.has_run(store, cursor["run"]):
        return False
    if (cursor.get("status"), cursor["sending"]) != (status, []):
        return False
    after = max(cursor["sent"].values(), default=0) - 1
    return all(
        row["step"] <= cursor["sent"].get(row["kind"], -1) for row in ledger.canonical(run, after)
    )


def _read_cursor(run: Run, recipe: Recipe) -> _Cursor:
    """The cursor of the run; empty if it belongs to another MLflow than the recipe's."""
    cursor: _Cursor = read_json(run.mlflow_cursor) if run.mlflow_cursor.is_file() else {}
    uri = str(cursor.get("uri"))
    # An earlier version recorded the path, which changes if the workspace is moved.
    is_own = recipe.tracking.mlflow == "workspace" and uri.startswith("sqlite:")
    return cursor if is_own or uri == recipe.tracking.mlflow else {}


def _sqlite_file(recipe: Recipe) -> Path | None:
    """MLflow's sqlite file; None if MLflow is a server."""
    if recipe.tracking.mlflow == "workspace":
        return Workspace(Path(recipe.workspace)).mlflow
    return sqlite.file_of(tracking_uri(recipe))


def _client(recipe: Recipe) -> Any:
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    tables = ("Creating initial MLflow database tables", "Updating database tables")
    log.leave_out("mlflow.store.db.utils", *tables, "Create SQLAlchemy engine with pool options")
    if recipe.tracking.mlflow == "workspace":
        store = Workspace(Path(recipe.workspace)).mlflow
        _make_store(store)
        sqlite.relocate_artifacts(store)
    return MlflowClient(tracking_uri=tracking_uri(recipe))


def _make_store(path: Path) -> None:
    """Create MLflow's sqlite file, whole or not at all: MLflow never repairs half-created tables."""
    if path.is_file() and path.stat().st_size:
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    MlflowClient(tracking_uri=sqlite.uri_of(fresh)).search_experiments()
    if path.is_file() and not path.stat().st_size:  # sqlite creates it if the file was removed
        fresh.replace(path)
        return
    with contextlib.suppress(FileExistsError):  # another run of the workspace was faster
        os.link(fresh, path)
    fresh.unlink()


def _brief(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _warn(text: str) -> None:
    log.warning(f"mlflow: {text}")


def _run_info(client: Any, run: Run, recipe: Recipe) -> Any:
    """MLflow's `info` of the run, found by the run's own id, or created."""
    sections = {"model": recipe.model, "training": recipe.training, "tokenizer": recipe.tokenizer}
    params = {
        f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in section.model_dump(exclude={"deepspeed"}).items()
    }
    own = read_json(run.identity)["id"]
    return _run(client, recipe, TAG, own, run.root.name, params).info


def _run(
    client: Any, recipe: Recipe, tag: str, identity: str, name: str, params: Mapping[str, Any]
) -> Any:
    """MLflow's run with the tag and these parameters: found, restored from the trash, or created."""
    from mlflow.entities import Param, RunTag

    experiment = _experiment(client, recipe)
    run = _find_run(client, experiment, f"tags.`{tag}` = '{identity}'")
    if run is None:
        run = client.create_run(experiment, tags={tag: identity}, run_name=name)
    has, tags = run.data.params, run.data.tags
    values = {key: str(value)[:_MAX_PARAM] for key, value in params.items()}
    missing = [Param(key, value) for key, value in values.items() if key not in has]
    shown = {key: tags.get(f"{_AMENDED_TAG}{key}", has.get(key, values[key])) for key in values}
    amended = [
        RunTag(f"{_AMENDED_TAG}{key}", values[key]) for key in values if shown[key] != values[key]
    ]
    if missing or amended:
        client.log_batch(run.info.run_id, params=missing, tags=amended)
    return run


def _find_run(client: Any, experiment: str, query: str) -> Any:
    """The experiment's run that matches, restored from the trash if necessary; None without one."""
    from mlflow.entities import ViewType

    if runs := client.search_runs([experiment], query, max_results=1):
        return runs[0]
    if runs := client.search_runs([experiment], query, ViewType.DELETED_ONLY, max_results=1):
        client.restore_run(runs[0].info.run_id)
        _warn(f"{runs[0].info.run_name} was in the trash; restored")
        return runs[0]
    return None


def _experiment(client: Any, recipe: Recipe) -> str:
    """The id of the recipe's experiment, found or created; its files are beside a sqlite store."""
    from mlflow.exceptions import MlflowException

    name, store = recipe.tracking.experiment, _sqlite_file(recipe)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # By default they would be in the current directory.
        location = None if store is None else sqlite.artifacts_of(store)
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
        except MlflowException:  # another task may have been faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    identity = str(experiment.experiment_id)
    if experiment.lifecycle_stage == "deleted":  # its name is still taken
        client.restore_experiment(identity)
        _warn(f"the experiment {name} was in the trash; restored with its runs")
    for key, value in _KIND.items():
        if key not in experiment.tags:
            client.set_experiment_tag(identity, key, value)
    return identity


def _finish_candidate(client: Any, run: Any, metrics: Mapping[str, float], plot: Path) -> None:
    """Add to a run the metrics and the plot that it lacks, and end it."""
    from mlflow.entities import Metric

    identity, now = run.info.run_id, int(time.time() * 1000)
    fresh = [
        Metric(key, value, now, 0)
        for key, value in metrics.items()
        if run.data.metrics.get(key) != value
    ]
    if fresh:
        client.log_batch(identity, metrics=fresh)
    digest = file_hash(plot)
    if run.data.tags.get(_PLOT_TAG) != digest:
        client.log_artifact(identity, str(plot))
        client.set_tag(identity, _PLOT_TAG, digest)
    if run.info.status != "FINISHED":
        client.set_terminated(identity, "FINISHED")
