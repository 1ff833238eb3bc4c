"""MLflow as a view of the ledger: the only door to it.

Rows are published in batches by a thread of rank 0; a server that is away slows nothing, and what
it missed is sent by the next attempt, or by `jobs.evaluate`. A step is published once: after a
rollback, steps that MLflow has are not sent again, as it could neither replace nor remove them.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.files import read_json, write_json
from kit.tracking import ledger
from kit.tracking.tensorboard import scalars
from kit.workspace import Workspace

if TYPE_CHECKING:
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
    """Publishes a run's ledger, in a thread of its own, until it is closed."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._run, self._recipe, self._status = run, recipe, "RUNNING"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True, name="mlflow")
        self._thread.start()

    def close(self, status: str, patience: float) -> bool:
        """Publish what is left and the status, within `patience` seconds; returns whether it did."""
        self._status = status
        self._closing.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _publish(self) -> None:
        told = False
        while True:
            last = self._closing.wait(_PAUSE)
            problem = publish(self._run, self._recipe, self._status)
            if problem and not told:
                print(f"mlflow: {problem}; training goes on, the rows are sent later", flush=True)
                told = True
            if last:
                return


def publish(run: Run, recipe: Recipe, status: str) -> str | None:
    """Send what MLflow has not got, and set the run's status; returns a problem in one line, or None.

    `status` is one of MLflow's: RUNNING, SCHEDULED (waits for its next attempt), FINISHED, FAILED.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri(recipe)
    try:
        _send(run, recipe, uri, status)
    except Exception as error:
        return f"{uri}: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    return None


def tracking_uri(recipe: Recipe) -> str:
    """Where MLflow is: the recipe's server, or the sqlite file of the workspace."""
    assert recipe.tracking.mlflow is not None
    if recipe.tracking.mlflow == "workspace":
        return f"sqlite:///{Workspace(Path(recipe.workspace)).mlflow}"
    return recipe.tracking.mlflow


def _send(run: Run, recipe: Recipe, uri: str, status: str) -> None:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    cursor = read_json(run.mlflow_cursor) if run.mlflow_cursor.is_file() else {}
    if cursor.get("uri") != uri:
        cursor = {"uri": uri, "run": _identity(client, run, recipe), "sent": {}, "sending": []}
    while True:
        # Noted before it is sent: after a crash in between the same rows go out again, to the
        # millisecond, and MLflow drops what it has.
        if rows := cursor["sending"]:
            metrics = [
                Metric(tag, value, int(row["time"] * 1000), row["step"])
                for row in rows
                for tag, value in scalars(row).items()
            ]
            client.log_batch(cursor["run"], metrics=metrics)
            cursor["sent"] |= {row["kind"]: row["step"] for row in rows}
        sent: dict[str, int] = cursor["sent"]  # the last step MLflow has, by kind of row
        fresh = [row for row in ledger.canonical(run) if row["step"] > sent.get(row["kind"], -1)]
        cursor["sending"] = fresh[:_BATCH]
        write_json(run.mlflow_cursor, cursor)
        if not fresh:
            break
    if status in ("FINISHED", "FAILED"):
        client.set_terminated(cursor["run"], status)
    else:
        client.update_run(cursor["run"], status=status)


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
