"""Readings of the GPUs of rank 0's node by NVML, the library behind nvidia-smi, in a thread of its own.

Training never waits for a reading: NVML may take seconds on a busy node, and for ever on a broken one. This
has run without a GPU so far, against a stand-in for `pynvml`.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.tracking.rows import GpuReading

_PAUSE = 10.0  # seconds between readings


class GpuReadings:
    """The latest readings; none on a machine without NVML."""

    def __init__(self, pause: float = _PAUSE) -> None:
        self._pause = pause
        self._latest: list[GpuReading] | None = None
        self._closing = threading.Event()
        threading.Thread(target=self._work, daemon=True, name="gpu readings").start()

    def take(self) -> list[GpuReading] | None:
        """One reading of each GPU, if there are new ones."""
        latest, self._latest = self._latest, None
        return latest

    def close(self) -> None:
        """End the thread, without waiting for it."""
        self._closing.set()

    def _work(self) -> None:
        try:
            nvml: Any = importlib.import_module("pynvml")
            nvml.nvmlInit()
            handles = [
                nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
            ]
        except Exception:
            return
        while True:
            self._latest = [_reading(nvml, index, one) for index, one in enumerate(handles)]
            if self._closing.wait(self._pause):
                return


def _reading(nvml: Any, index: int, handle: Any) -> GpuReading:
    """One GPU; None for a value that it does not support."""

    def value(function: Any, *more: Any) -> Any:
        try:
            return function(handle, *more)
        except nvml.NVMLError:
            return None

    utilisation = value(nvml.nvmlDeviceGetUtilizationRates)
    memory = value(nvml.nvmlDeviceGetMemoryInfo)
    power = value(nvml.nvmlDeviceGetPowerUsage)  # milliwatts
    return {
        "index": index,
        "utilisation": None if utilisation is None else utilisation.gpu / 100,
        "temperature": value(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        "power": None if power is None else power / 1000,
        "clock": value(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        "memory_bytes": None if memory is None else memory.used,
    }
