"""A stand-in for pynvml: a node with eight GPUs, whose faults a test chooses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Nvml:
    """NVML's answers about GPUs that are well, until a test says otherwise."""

    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0
    NVML_P2P_CAPS_INDEX_READ, NVML_P2P_STATUS_OK = 0, 0
    nvmlClocksThrottleReasonHwSlowdown = 8  # noqa: N815
    nvmlClocksThrottleReasonSwThermalSlowdown = 32  # noqa: N815
    nvmlClocksThrottleReasonHwThermalSlowdown = 64  # noqa: N815
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 128  # noqa: N815

    NVML_ERROR_INVALID_ARGUMENT, NVML_ERROR_NO_PERMISSION = 2, 4
    NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED, NVML_ERROR_UNKNOWN = 15, 16, 999

    class NVMLError(Exception):
        """An error with its number."""

        @property
        def value(self) -> int:
            return int(self.args[0])

    def __init__(self) -> None:
        self.names = ["NVIDIA A100-SXM4-40GB"] * 8
        self.used = [500_000_000] * 8
        self.total = 42_500_000_000
        self.lost: set[int] = set()
        self.of_others: set[int] = set()  # which this job may not use
        self.ecc: dict[int, int] = {}
        self.rows: dict[int, tuple[int, int, int, int]] = {}
        self.throttled: dict[int, list[int]] = {}  # readings, one after the other
        self.apart: set[tuple[int, int]] = set()
        self.processes: dict[int, list[int]] = {}
        self.driver = True

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError(9, "Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= len(self.names):
            raise self.NVMLError(self.NVML_ERROR_INVALID_ARGUMENT)
        if index in self.of_others:
            raise self.NVMLError(self.NVML_ERROR_NO_PERMISSION)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return self.nvmlDeviceGetHandleByIndex(int(uuid.removeprefix("GPU-")))

    def nvmlDeviceGetName(self, gpu: int) -> str:  # noqa: N802
        if gpu in self.lost:
            raise self.NVMLError(self.NVML_ERROR_GPU_IS_LOST)
        return self.names[gpu]

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:  # noqa: N802
        used = self.used[gpu]
        return SimpleNamespace(used=used, free=self.total - used, total=self.total)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.processes.get(gpu, ())]

    def nvmlDeviceGetTotalEccErrors(self, gpu: int, kind: int, counter: int) -> int:  # noqa: N802
        assert (kind, counter) == (1, 0)
        return self.ecc.get(gpu, 0)

    def nvmlDeviceGetRemappedRows(self, gpu: int) -> tuple[int, int, int, int]:  # noqa: N802
        if gpu not in self.rows:
            raise self.NVMLError(3)  # not supported
        return self.rows[gpu]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: int) -> int:  # noqa: N802
        readings = self.throttled.get(gpu, [0])
        return readings.pop(0) if len(readings) > 1 else readings[0]

    def nvmlDeviceGetP2PStatus(self, one: int, other: int, kind: int) -> int:  # noqa: N802
        return 2 if (one, other) in self.apart else 0
