"""MLflow as a view of the ledger, and of the candidates for a tokenizer: the only door to it.

Rows are published in batches by a thread of rank 0; a server that is away slows nothing, and what
it missed is sent by the next attempt, or by `jobs.evaluate`. A step is published once: after a
rollback, steps that MLflow has are not sent again, as it could neither replace nor remove them.
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

from kit import log
from kit.files import file_hash, read_json, write_json
from kit.tracking import ledger
from kit.tracking.tensorboard import scalars
from kit.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config import Recipe
    from kit.workspace import Run

TAG, CANDIDATE_TAG = "ekiden.run", "ekiden.candidate"
_PLOT_TAG = "ekiden.plot"  # the hash of the plot that is shown
_SQLITE = "sqlite:///"
_BATCH = 150  # rows of at most six metrics: MLflow takes 1,000 metrics a call
_PAUSE = 5.0  # seconds between two looks at the ledger
_PATIENCE = {  # MLflow's own retries would block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Publisher:
    """Publishes the rows of the attempt that is running, in a thread of its own.

    It begins with what earlier attempts could not send. Rows wait in memory while MLflow is away.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._run, self._recipe, self._status = run, recipe, "RUNNING"
        self._rows: deque[ledger.Row] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="mlflow")
        self._thread.start()

    def add(self, row: ledger.Row) -> None:
        """Publish a row of the curve, soon."""
        if row["kind"] in ledger.CURVE:
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
            try:
                if store is None:
                    found = _Store(self._run, self._recipe)
                    found.send(ledger.canonical(self._run, found.sent))
                    found.set_status("RUNNING")
                    store = found
                waiting = list(self._rows)
                store.send(waiting)
                for _ in waiting:
                    self._rows.popleft()
                if last:
                    store.set_status(self._status)
            except Exception as error:  # whatever MLflow raises, training goes on
                if not told:
                    log.warning(f"mlflow: {_brief(error)}; the rows are sent later")
                    told = True
            if last:
                return


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
        return f"{_SQLITE}{Workspace(Path(recipe.workspace)).mlflow}"
    return recipe.tracking.mlflow


class _Store:
    """A run in MLflow, and the note of how far it has been told."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        uri = tracking_uri(recipe)
        self._note = run.mlflow_cursor
        self._client = _client(recipe)
        cursor = read_json(self._note) if self._note.is_file() else {}
        if cursor.get("uri") != uri:
            identity = _identity(self._client, run, recipe)
            cursor = {"uri": uri, "run": identity, "sent": {}, "sending": []}
        self._cursor: dict[str, Any] = cursor
        self._cursor.pop("status", None)
        self._log(cursor["sending"])  # noted by an attempt that may have died before it was sent

    @property
    def sent(self) -> int:
        """The step up to which MLflow surely has all rows: a validation follows its step."""
        sent: dict[str, int] = self._cursor["sent"]
        return max(sent.values(), default=0) - 1

    def send(self, rows: Sequence[ledger.Row]) -> None:
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

    def _log(self, rows: Sequence[ledger.Row]) -> None:
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
    """Whether the note says that MLflow has every row and the status: it need not even be imported."""
    if not run.mlflow_cursor.is_file():
        return False
    uri, noted = tracking_uri(recipe), read_json(run.mlflow_cursor)
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
        return False
    if (noted["uri"], noted.get("status"), noted["sending"]) != (uri, status, []):
        return False
    after = max(noted["sent"].values(), default=0) - 1
    return all(
        row["step"] <= noted["sent"].get(row["kind"], -1) for row in ledger.canonical(run, after)
    )


def _client(recipe: Recipe) -> Any:
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    made = ("Creating initial MLflow database tables", "Updating database tables")
    log.leave_out("mlflow.store.db.utils", *made)
    if recipe.tracking.mlflow == "workspace":
        _make_store(Workspace(Path(recipe.workspace)).mlflow)
    return MlflowClient(tracking_uri=tracking_uri(recipe))


def _make_store(path: Path) -> None:
    """MLflow's sqlite file, whole or absent: killed while it makes its tables, MLflow never mends them."""
    if path.is_file():
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    MlflowClient(tracking_uri=f"sqlite:///{fresh}").search_experiments()
    with contextlib.suppress(FileExistsError):  # another run of the workspace was quicker
        os.link(fresh, path)
    fresh.unlink()


def _brief(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _identity(client: Any, run: Run, recipe: Recipe) -> str:
    """MLflow's id for the run, found by the run's own, or made."""
    sections = {"model": recipe.model, "training": recipe.training, "tokenizer": recipe.tokenizer}
    params = {
        f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in section.model_dump(exclude={"deepspeed"}).items()
    }
    own = read_json(run.identity)["id"]
    return str(_run(client, recipe, TAG, own, run.root.name, params).info.run_id)


def _run(
    client: Any, recipe: Recipe, tag: str, identity: str, name: str, params: Mapping[str, Any]
) -> Any:
    """MLflow's run with the tag, found or made; parameters that it has stay as they are."""
    from mlflow.entities import Param

    place = _experiment(client, recipe)
    found = client.search_runs([place], f"tags.`{tag}` = '{identity}'")
    run = found[0] if found else client.create_run(place, tags={tag: identity}, run_name=name)
    missing = [
        Param(key, str(value)) for key, value in params.items() if key not in run.data.params
    ]
    if missing:
        client.log_batch(run.info.run_id, params=missing)
    return run


def _experiment(client: Any, recipe: Recipe) -> str:
    """The id of the recipe's experiment, found or made; its files lie beside a sqlite store."""
    from mlflow.exceptions import MlflowException

    name, uri = recipe.tracking.experiment, tracking_uri(recipe)
    found = client.get_experiment_by_name(name)
    if found is None:
        place = None
        if uri.startswith(_SQLITE):  # else they would lie where the command was typed
            store = Path(uri.removeprefix(_SQLITE)).absolute()
            place = str(store.with_name("mlartifacts"))
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)  # there from the start, or another task was quicker


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
