"""MLflow as a view of the ledger: the only door to it.

Rows are published in batches by a thread of rank 0; a server that is away slows nothing, and what
it missed is sent by the next attempt, or by `jobs.evaluate`. A step is published once: after a
rollback, steps that MLflow has are not sent again, as it could neither replace nor remove them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.files import read_json, write_json
from kit.tracking import ledger
from kit.tracking.tensorboard import scalars
from kit.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config import Recipe
    from kit.workspace import Run

TAG = "ekiden.run"
_BATCH = 200  # rows of at most five metrics: MLflow takes 1,000 metrics a call
_PAUSE = 5.0  # seconds between two looks at the ledger
_PATIENCE = {  # MLflow's own retries would block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
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
                    print(f"mlflow: {_brief(error)}; the rows are sent later", flush=True)
                    told = True
            if last:
                return


def publish(run: Run, recipe: Recipe, status: str) -> str | None:
    """Send what MLflow has not got, and set the run's status; returns a problem in one line, or None.

    `status` is one of MLflow's: RUNNING, SCHEDULED (waits for its next attempt), FINISHED,
    FAILED, KILLED (stopped by a user).
    """
    try:
        store = _Store(run, recipe)
        store.send(ledger.canonical(run, store.sent))
        store.set_status(status)
    except Exception as error:  # whatever MLflow raises
        return f"{tracking_uri(recipe)}: {_brief(error)}"
    return None


def tracking_uri(recipe: Recipe) -> str:
    """Where MLflow is: the recipe's server, or the sqlite file of the workspace."""
    assert recipe.tracking.mlflow is not None
    if recipe.tracking.mlflow == "workspace":
        return f"sqlite:///{Workspace(Path(recipe.workspace)).mlflow}"
    return recipe.tracking.mlflow


class _Store:
    """A run in MLflow, and the note of how far it has been told."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        if recipe.tracking.mlflow == "workspace":
            _make_store(Workspace(Path(recipe.workspace)).mlflow)
        uri = tracking_uri(recipe)
        self._note = run.mlflow_cursor
        self._client = MlflowClient(tracking_uri=uri)
        cursor = read_json(self._note) if self._note.is_file() else {}
        if cursor.get("uri") != uri:
            identity = _identity(self._client, run, recipe)
            cursor = {"uri": uri, "run": identity, "sent": {}, "sending": []}
        self._cursor: dict[str, Any] = cursor
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
    from mlflow.entities import Param

    own = read_json(run.identity)["id"]
    experiment = recipe.tracking.experiment
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    runs = client.search_runs([place], f"tags.`{TAG}` = '{own}'")
    if runs:
        return str(runs[0].info.run_id)
    made = client.create_run(place, tags={TAG: own}, run_name=run.root.name)
    sections = {"model": recipe.model, "training": recipe.training, "tokenizer": recipe.tokenizer}
    params = [
        Param(f"{name}.{key}", str(value))
        for name, section in sections.items()
        for key, value in section.model_dump(exclude={"deepspeed"}).items()
    ]
    client.log_batch(made.info.run_id, params=params)
    return str(made.info.run_id)
