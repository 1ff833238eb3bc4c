"""A run in MLflow, with its cursor: rows, tags, status.

Rows are recorded in the cursor before they are sent. After a crash in between, or by another publisher, the
same rows go out again, equal to the millisecond, and MLflow drops duplicates. If another publisher has
moved the cursor, it is read again, and MLflow is asked for the last step that it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.store.files import read_json, write_json
from kit.tracking import ledger
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import cursor as cursors
from kit.tracking.mlflow import curve, params, runs, status, tags
from kit.tracking.mlflow.address import tracking_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.mlflow.cursor import Position
    from kit.tracking.mlflow.status import Status
    from kit.tracking.rows import CurveRow

_BATCH = 80  # rows of at most 12 metrics: MLflow takes 1,000 metrics a call
NO_POSITION: Position = {"attempt": 0, "step": -1, "time": 0.0}


class Store:
    """A run in MLflow, with its cursor."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._run, self._recipe, self._path = run, recipe, run.mlflow_cursor
        self._written: object = None
        self.client = door.connect(recipe)
        own = read_json(run.identity)["id"]
        found = runs.with_params(
            self.client, recipe, runs.TAG, own, run.root.name, params.of_recipe(recipe)
        )
        self.id, self.experiment = found.info.run_id, str(found.info.experiment_id)
        self._load(found)

    def refresh(self) -> None:
        """Read the cursor again if another publisher has moved it."""
        if self._stamp() != self._written:
            self._load(self.client.get_run(self.id))

    def send_rows(self) -> int:
        """Send the rows of the curve that MLflow lacks; returns their number."""
        sent = self._cursor["sent"]
        # A validation follows its step, so up to the step before the last MLflow has all rows.
        rows = ledger.canonical(self._run, max(sent.values(), default=0) - 1)
        fresh = [row for row in rows if row["step"] > sent.get(row["kind"], -1)]
        for start in range(0, len(fresh), _BATCH):
            self._cursor["sending"] = fresh[start : start + _BATCH]
            self._write()
            self._log(self._cursor["sending"])
        return len(fresh)

    def send_devices(self) -> None:
        """Send the readings of GPUs that MLflow lacks."""
        position = self._cursor.get("devices", NO_POSITION)
        rows, after = curve.device_rows(self._run, position)
        for row in rows:
            metrics = curve.metrics(curve.device_values(row), row["time"], row["step"])
            self.client.log_batch(self.id, metrics=metrics)
        self._cursor["devices"] = after  # on disk with the next rows

    def send_values(self, values: Mapping[str, float], seconds: float) -> None:
        """Send values of this moment, a Unix time, at the last step."""
        step = max(self._cursor["sent"].values(), default=0)
        self.client.log_batch(self.id, metrics=curve.metrics(values, seconds, step))

    def send_tags(self) -> None:
        """Set the tags of the run that have changed."""
        values = tags.contents(self._run, self._recipe)
        fresh = {key: value for key, value in values.items() if not self.has(key, value)}
        if fresh:
            named = {key.removeprefix(tags.PREFIX): value for key, value in fresh.items()}
            door.log_texts(self.client, self.id, tags=named)
            self.note(fresh)

    def has(self, name: str, content: str) -> bool:
        """Whether MLflow has something with that content."""
        return cursors.holds(self._cursor, name, content)

    def note(self, contents: Mapping[str, str]) -> None:
        """Record that MLflow has something, by name, with that content."""
        noted = {name: cursors.hash_of(content) for name, content in contents.items()}
        self._cursor["noted"] |= noted
        self._write()

    def set_status(self, value: Status) -> None:
        """Set the run's status."""
        if self._cursor.get("status") == value:
            return
        if value in status.ENDED:
            self.client.set_terminated(self.id, value)
        else:
            self.client.update_run(self.id, status=value)
        self._cursor["status"] = value
        self._write()

    def _load(self, found: Any) -> None:
        """The cursor from its file, with the last steps and the status from MLflow itself."""
        self._written = self._stamp()
        cursor = cursors.read(self._run, self._recipe)
        if cursor.get("run") != self.id:
            if cursor.get("sent"):
                door.warn(
                    f"{tracking_uri(self._recipe)}: {self._run.root.name} no longer exists; creating it "
                    "again"
                )
            cursor = {"run": self.id}
        cursor["uri"], cursor["experiment"] = self._recipe.tracking.mlflow, self.experiment
        cursor["status"] = found.info.status
        cursor["sent"] = curve.last_steps(found)
        cursor.setdefault("noted", {})
        self._cursor = cursor
        # Another publisher, or an attempt that died, may not have sent these.
        self._log(cursor.get("sending", []))

    def _log(self, rows: Sequence[CurveRow]) -> None:
        if metrics := curve.metrics_of(rows):
            self.client.log_batch(self.id, metrics=metrics)
        for row in rows:
            step = max(row["step"], self._cursor["sent"].get(row["kind"], -1))
            self._cursor["sent"][row["kind"]] = step
        self._cursor["sending"] = []
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._cursor)
        self._written = self._stamp()

    def _stamp(self) -> object:
        """A value that changes whenever the cursor is written; None before the first time."""
        try:
            seen = self._path.stat()
        except FileNotFoundError:
            return None
        return seen.st_ino, seen.st_mtime_ns, seen.st_size
