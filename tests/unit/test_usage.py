"""What a step used: waiting for data, the slowest rank, memory; and the readings of GPUs."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kit.training import stopwatch
from kit.training.gpu_readings import GpuReadings
from kit.training.stopwatch import GpuStopwatch, Stopwatch
from kit.training.usage import usage

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_slowest_rank_is_compared_with_the_median_rank() -> None:
    ranks = [[0.1, 2.0, 30, 0], [0.4, 2.5, 10, 0], [0.0, 3.5, 20, 0], [0.0, 2.2, 20, 0]]
    assert usage(5.0, ranks) == {
        "seconds": 5.0,
        "data_seconds": 0.4,
        "slowest_rank": 2,
        "slowest_behind": pytest.approx(3.5 - 2.35),
        "memory_bytes": 30,
    }
    assert usage(5.0, [[0.0, 1.0, 3, 7]])["slowest_behind"] == 0
    assert usage(5.0, [[0.0, 1.0, 3, 7]])["reserved_bytes"] == 7


def test_a_stopwatch_adds_up_its_blocks_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    watch = Stopwatch()
    for _ in range(2):
        with watch:
            pass
    assert (watch.take(), watch.take()) == (2.5, 0.0)


def test_on_a_gpu_the_time_is_that_between_events_and_nothing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([100.0, 350.0])  # milliseconds

    class Event:  # a stand-in for torch.cuda.Event; any other call would fail
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(clock)

        def elapsed_time(self, end: Event) -> float:
            return end.at - self.at

    monkeypatch.setattr("torch.cuda.Event", Event)
    watch = GpuStopwatch()
    with watch:
        pass
    assert (watch.take(), watch.take()) == (0.25, 0.0)


class Nvml:
    """A stand-in for pynvml with two GPUs, of which one has no power sensor."""

    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM = 0, 1

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.temperature = 60

    def nvmlInit(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=97, memory=40)

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=30_000_000_000)

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self.temperature

    def nvmlDeviceGetClockInfo(self, gpu: int, clock: int) -> int:  # noqa: N802
        assert clock == self.NVML_CLOCK_SM
        return 1410

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:  # noqa: N802
        if gpu == 1:
            raise self.NVMLError
        return 250_000


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuReadings]:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    taken = GpuReadings(pause=0.01)
    yield taken
    taken.close()


def test_gpus_are_read_in_units_that_the_ledger_names(readings: GpuReadings) -> None:
    deadline = time.monotonic() + 30
    while (found := readings.take()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == [
        {"index": index, "utilisation": 0.97, "temperature": 60, "power": power, "clock": 1410,
         "memory_bytes": 30_000_000_000}
        for index, power in enumerate((250.0, None))
    ]  # fmt: skip


def test_without_nvml_there_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    readings = GpuReadings(pause=0.01)
    readings.close()
    assert readings.take() is None
