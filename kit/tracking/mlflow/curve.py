"""Rows of the ledger as metrics: the curve, and readings of GPUs and of the host as system metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kit.tracking import ledger
from kit.tracking.mlflow import client as door
from kit.tracking.tensorboard import scalars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kit.store.paths import Run
    from kit.tracking.mlflow.cursor import Position
    from kit.tracking.rows import CurveRow, DevicesRow

PAUSE = 60.0  # seconds between system metrics: every 10 s are 29 million in 70 days for 8 GPUs
# Names and units as MLflow's own system metrics.
_OF_GPU = {
    "utilisation": ("utilization_percentage", 100.0),
    "temperature": ("temperature_celsius", 1.0),
    "power": ("power_usage_watts", 1.0),
    "clock": ("clock_megahertz", 1.0),
    "memory_bytes": ("memory_usage_megabytes", 1e-6),
}
_CURVE, _OF_VALIDATION = "train/", "train/validation_loss"


def metrics_of(rows: Iterable[CurveRow]) -> list[Any]:
    """The values of rows of the curve as MLflow's metrics."""
    return [
        metric
        for row in rows
        for metric in metrics(scalars(row), row["time"], row["step"])
    ]  # fmt: skip


def metrics(values: Mapping[str, float], seconds: float, step: int) -> list[Any]:
    """Values at a Unix time and a step as MLflow's metrics."""
    kind = door.entities().Metric
    return [kind(key, float(value), int(seconds * 1000), step) for key, value in values.items()]


def last_steps(run: Any) -> dict[str, int]:
    """The last step that MLflow has of a run, by kind of row."""
    # Public attributes have the values of the last metrics, and not their steps.
    steps = {m.key: int(m.step) for m in run.data._metric_objs if m.key.startswith(_CURVE)}
    found = {}
    if _OF_VALIDATION in steps:
        found["validation"] = steps.pop(_OF_VALIDATION)
    if steps:  # one of them may be missing from a row, or not finite
        found["step"] = max(steps.values())
    return found


def device_rows(run: Run, position: Position) -> tuple[list[DevicesRow], Position]:
    """Rows of kind `devices` after a position, at most one per `PAUSE`, and the position after them."""
    found: list[DevicesRow] = []
    number, step, time = position["attempt"], position["step"], position["time"]
    for attempt in ledger.attempts(run):
        if attempt.number < number:
            continue
        for row in ledger.rows(attempt, step if attempt.number == number else -1):
            if row["kind"] == "step":
                number, step = attempt.number, row["step"]
            elif row["kind"] == "devices" and row["time"] >= time + PAUSE:
                found.append(row)
                time = row["time"]
    return found, {"attempt": number, "step": step, "time": time}


def device_values(row: DevicesRow) -> dict[str, float]:
    """The values of a row of kind `devices`, by metric."""
    values = {}
    for gpu in row["gpus"]:
        readings: Mapping[str, Any] = {**gpu}
        for key, (name, factor) in _OF_GPU.items():
            if readings.get(key) is not None:
                values[f"system/gpu_{gpu['index']}_{name}"] = readings[key] * factor
    return values


class Host:
    """The load of this machine, read at most once per `PAUSE`."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._due = time.monotonic()
        self._psutil.cpu_percent()  # the next call is over the time since this one

    def values(self) -> dict[str, float]:
        """The values by metric; none before they are due."""
        if time.monotonic() < self._due:
            return {}
        self._due = time.monotonic() + PAUSE
        memory = self._psutil.virtual_memory()
        return {
            "system/cpu_utilization_percentage": self._psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": (memory.total - memory.available) / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
        }
