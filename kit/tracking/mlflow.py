"""MLflow as a view of the ledger, and of the candidates for a tokenizer: the only door to it.

Rows are published in batches by a thread of rank 0; a server that is away slows nothing, and what
it missed is sent by the next attempt, or by `jobs.evaluate`. A step is published once: after a
rollback, steps that MLflow has are not sent again, as it could neither replace nor remove them.

The ledger is the truth: what was moved to the trash there is taken out of it, and what is gone is made
anew. Parameters cannot change there: one that was amended is a tag, `amended.KEY`, beside its first value.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
_PLOT_TAG = "ekiden.plot"  # the hash of the plot that is shown
_AMENDED_TAG = "amended."  # before the name of a parameter
# By it the page shows training runs; without it some versions show traces of language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_LONGEST = 6000  # characters of a parameter: MLflow cuts it there
_BATCH = 150  # rows of at most six metrics: MLflow takes 1,000 metrics a call
_PAUSE = 5.0  # seconds between two looks at the ledger
_PATIENCE = {  # MLflow's own retries would block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A sqlite file that is removed is noticed: a connection that stays open would write on into it.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Publisher:
    """Publishes the rows of the attempt that is running, in a thread of its own.

    It begins with what earlier attempts could not send. Rows wait in memory while MLflow is away.
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
        """Publish what is left and the status, within `patience` seconds; returns whether it did."""
        self._status = status
        self._closing.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        store: _Store | None = None
        told = False
        while True:
            last = self._closing.wait(_PAUSE)
            # Twice: a user may have deleted the run in the meantime, which is then looked for anew.
            for known in [store, None] if store else [None]:
                try:
                    store = self._send(known, last)
                    break
                except Exception as error:  # whatever MLflow raises, training goes on
                    store, problem = None, error
            if store is None and not told:
                log.warning(f"mlflow: {_brief(problem)}; the rows are sent later")
                told = True
            if last:
                return

    def _send(self, known: _Store | None, last: bool) -> _Store:
        """Send the rows that wait, at first with all that MLflow has not got."""
        store = known or _Store(self._run, self._recipe)
        if known is None:
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
    """Send what MLflow has not got, and set the run's status; returns a problem in one line, or None.

    `status` is one of MLflow's: RUNNING, SCHEDULED (waits for its next attempt), FINISHED,
    FAILED, KILLED (stopped by a user).
    """
    if _is_told(run, recipe, status):
        return None
    try:
        store = _Store(run, recipe)
        store.send(ledger.canonical(run, store.sent))
        store.set_status(status)
    except Exception as error:  # whatever MLflow raises
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
    """Show a candidate for the tokenizer as a run; returns a problem in one line, or None.

    `identity` stands for all that decides the candidate: with the same, a second call changes what
    differs in the run of the first.
    """
    if recipe.tracking.mlflow is None:
        return None
    try:
        client = _client(recipe)
        _show(client, _run(client, recipe, CANDIDATE_TAG, identity, name, params), metrics, plot)
    except Exception as error:  # whatever MLflow raises
        return f"{tracking_uri(recipe)}: {_brief(error)}"
    return None


def tracking_uri(recipe: Recipe) -> str:
    """Where MLflow is: the recipe's server, or the sqlite file of the workspace."""
    assert recipe.tracking.mlflow is not None
    if recipe.tracking.mlflow == "workspace":
        return sqlite.uri_of(Workspace(Path(recipe.workspace)).mlflow)
    return recipe.tracking.mlflow


def page(run: Run, recipe: Recipe) -> str | None:
    """The address of the run's experiment behind that of MLflow's page; None before MLflow has it.

    Without `workflowType` the page opens on what it has for traces of language models.
    """
    cursor = _noted(run, recipe)
    if "experiment" not in cursor:
        return None
    return f"/#/experiments/{cursor['experiment']}/runs?workflowType=machine_learning"


class _Store:
    """A run in MLflow, and the note of how far it has been told."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._note = run.mlflow_cursor
        self._client = _client(recipe)
        cursor = _noted(run, recipe)
        info = _identity(self._client, run, recipe)
        if cursor.get("run") != info.run_id:
            if cursor.get("sent"):
                _say(f"{tracking_uri(recipe)}: {run.root.name} is not there any more; made anew")
            cursor = {"run": info.run_id, "sent": {}, "sending": []}
        where = {"uri": recipe.tracking.mlflow, "experiment": info.experiment_id}
        self._cursor: dict[str, Any] = cursor | where
        self._cursor.pop("status", None)
        self._log(cursor["sending"])  # noted by an attempt that may have died before it was sent

    @property
    def sent(self) -> int:
        """The step up to which MLflow surely has all rows: a validation follows its step."""
        sent: dict[str, int] = self._cursor["sent"]
        return max(sent.values(), default=0) - 1

    def send(self, rows: Sequence[CurveRow]) -> None:
        """Send those of the rows, in the order of their steps, that MLflow has not got."""
        sent: dict[str, int] = self._cursor["sent"]  # the last step it has, by kind of row
        fresh = [row for row in rows if row["step"] > sent.get(row["kind"], -1)]
        for start in range(0, len(fresh), _BATCH):
            # Noted before it is sent: after a crash in between the same rows go out again, to the
            # millisecond, and MLflow drops what it has.
            self._cursor["sending"] = fresh[start : start + _BATCH]
            write_json(self._note, self._cursor)
            self._log(self._cursor["sending"])

    def set_status(self, status: str) -> None:
        """Set the run's status."""
        if status in ("FINISHED", "FAILED", "KILLED"):
            self._client.set_terminated(self._cursor["run"], status)
        else:
            self._client.update_run(self._cursor["run"], status=status)
        self._cursor["status"] = status
        write_json(self._note, self._cursor)

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
        write_json(self._note, self._cursor)


def _is_told(run: Run, recipe: Recipe, status: str) -> bool:
    """Whether a sqlite file has every row and the status: MLflow need not even be imported."""
    noted, store = _noted(run, recipe), _sqlite_file(recipe)
    if store is None or "experiment" not in noted or not sqlite.has_run(store, noted["run"]):
        return False
    if (noted.get("status"), noted["sending"]) != (status, []):
        return False
    after = max(noted["sent"].values(), default=0) - 1
    return all(
        row["step"] <= noted["sent"].get(row["kind"], -1) for row in ledger.canonical(run, after)
    )


def _noted(run: Run, recipe: Recipe) -> dict[str, Any]:
    """How far MLflow has been told, where that is the recipe's MLflow; else empty."""
    cursor: dict[str, Any] = read_json(run.mlflow_cursor) if run.mlflow_cursor.is_file() else {}
    where = str(cursor.get("uri"))
    # An earlier version noted the path, which is another where the workspace was moved.
    is_own = recipe.tracking.mlflow == "workspace" and where.startswith("sqlite:")
    return cursor if is_own or where == recipe.tracking.mlflow else {}


def _sqlite_file(recipe: Recipe) -> Path | None:
    """The sqlite file that MLflow is, if it is one."""
    if recipe.tracking.mlflow == "workspace":
        return Workspace(Path(recipe.workspace)).mlflow
    return sqlite.file_of(tracking_uri(recipe))


def _client(recipe: Recipe) -> Any:
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    made = ("Creating initial MLflow database tables", "Updating database tables")
    log.leave_out("mlflow.store.db.utils", *made, "Create SQLAlchemy engine with pool options")
    if recipe.tracking.mlflow == "workspace":
        store = Workspace(Path(recipe.workspace)).mlflow
        _make_store(store)
        sqlite.bring_artifacts(store)
    return MlflowClient(tracking_uri=tracking_uri(recipe))


def _make_store(path: Path) -> None:
    """MLflow's sqlite file, whole or absent: killed while it makes its tables, MLflow never mends them."""
    if path.is_file() and path.stat().st_size:
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    MlflowClient(tracking_uri=sqlite.uri_of(fresh)).search_experiments()
    if path.is_file() and not path.stat().st_size:  # sqlite's, in place of one that was removed
        fresh.replace(path)
        return
    with contextlib.suppress(FileExistsError):  # another run of the workspace was quicker
        os.link(fresh, path)
    fresh.unlink()


def _brief(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _say(text: str) -> None:
    log.warning(f"mlflow: {text}")


def _identity(client: Any, run: Run, recipe: Recipe) -> Any:
    """MLflow's `info` of the run, found by the run's own id, or made."""
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
    """MLflow's run with the tag: found, taken out of the trash, or made; with these parameters."""
    from mlflow.entities import Param, RunTag

    place = _experiment(client, recipe)
    run = _found(client, place, f"tags.`{tag}` = '{identity}'")
    if run is None:
        run = client.create_run(place, tags={tag: identity}, run_name=name)
    has, tags = run.data.params, run.data.tags
    told = {key: str(value)[:_LONGEST] for key, value in params.items()}
    missing = [Param(key, value) for key, value in told.items() if key not in has]
    shown = {key: tags.get(f"{_AMENDED_TAG}{key}", has.get(key, told[key])) for key in told}
    other = [RunTag(f"{_AMENDED_TAG}{key}", told[key]) for key in told if shown[key] != told[key]]
    if missing or other:
        client.log_batch(run.info.run_id, params=missing, tags=other)
    return run


def _found(client: Any, place: str, wanted: str) -> Any:
    """A run of an experiment, taken out of the trash if it lies there; None where there is none."""
    from mlflow.entities import ViewType

    if found := client.search_runs([place], wanted, max_results=1):
        return found[0]
    if found := client.search_runs([place], wanted, ViewType.DELETED_ONLY, max_results=1):
        client.restore_run(found[0].info.run_id)
        _say(f"{found[0].info.run_name}: was in the trash, and is taken out of it")
        return found[0]
    return None


def _experiment(client: Any, recipe: Recipe) -> str:
    """The id of the recipe's experiment, found or made; its files lie beside a sqlite store."""
    from mlflow.exceptions import MlflowException

    name, store = recipe.tracking.experiment, _sqlite_file(recipe)
    found = client.get_experiment_by_name(name)
    if found is None:
        # Without it they would lie where the command was typed.
        place = None if store is None else sqlite.artifacts_of(store)
        try:
            return str(client.create_experiment(name, artifact_location=place, tags=_KIND))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    identity = str(found.experiment_id)  # there from the start, or another task was quicker
    if found.lifecycle_stage == "deleted":  # its name is not free
        client.restore_experiment(identity)
        _say(f"the experiment {name} was in the trash, and is taken out of it with its runs")
    for key, value in _KIND.items():
        if key not in found.tags:
            client.set_experiment_tag(identity, key, value)
    return identity


def _show(client: Any, run: Any, metrics: Mapping[str, float], plot: Path) -> None:
    """Give a run, as it was found, the metrics and the plot, and end it."""
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
