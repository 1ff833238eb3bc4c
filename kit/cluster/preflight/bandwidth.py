"""Rates between host and GPUs, and among the GPUs of this machine, measured by torch in this process.

The thresholds are those of Azure's health checks for 8 A100s with NVLink (azurehpc-health-checks): 23 GB/s
from the host, 228 GB/s bus bandwidth. Nothing here has run on a GPU: the tests inject the readings.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, NotChecked

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.cluster.preflight.finding import Site

_COPY = 1 << 28  # bytes of a copy
_MESSAGE = 1 << 31  # bytes of an all-reduce on each GPU: smaller ones do not fill the links
_WARM_UP, _ROUNDS = 3, 10


def copies() -> list[float]:
    """The rate of a copy from pinned memory to each GPU that this process sees, in bytes per second."""
    import torch

    rates = []
    host = torch.empty(_COPY, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
    for index in range(torch.cuda.device_count()):
        target = torch.empty(_COPY, dtype=torch.uint8, device=f"cuda:{index}")
        seconds = _seconds(lambda target=target: target.copy_(host, non_blocking=True))  # type: ignore[misc]
        rates.append(_COPY / seconds)
    return rates


def reductions() -> tuple[int, float]:
    """The GPUs that this process sees, and the bus bandwidth of an all-reduce over them.

    In bytes per second, as nccl-tests define it: 2 (n - 1) / n times the bytes of a message per second.
    """
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return count, 0.0
    buffers = [
        torch.zeros(_MESSAGE // 2, dtype=torch.float16, device=f"cuda:{index}")
        for index in range(count)
    ]
    seconds = _seconds(lambda: torch.cuda.nccl.all_reduce(buffers))  # type: ignore[no-untyped-call]
    return count, 2 * (count - 1) / count * _MESSAGE / seconds


def host_to_device(site: Site, measure: Callable[[], list[float]] = copies) -> Finding:
    """The slowest copy from the host to a GPU."""
    rates, limit = measure(), site.cluster.checks.host_to_device_gb_s
    if not rates:
        raise NotChecked("torch sees no GPU")
    slowest = min(rates)
    found = f"GPU {rates.index(slowest)}: {slowest / 1e9:.1f} GB/s, the slowest of {len(rates)}"
    if slowest >= limit * 1e9:
        return Finding("host_to_device", "ok", found)
    remedy = f"below checks.host_to_device_gb_s={limit:g}: see the width and speed of its PCIe link"
    return Finding("host_to_device", "bad", found, remedy, of_node=True)


def all_reduce(site: Site, measure: Callable[[], tuple[int, float]] = reductions) -> Finding:
    """The bus bandwidth over all GPUs of the machine."""
    (count, rate), limit = measure(), site.cluster.checks.all_reduce_gb_s
    if count < 2:
        raise NotChecked(f"this process sees {count or 'no'} GPU")
    found = f"{rate / 1e9:.0f} GB/s over {count} GPUs"
    if rate >= limit * 1e9:
        return Finding("all_reduce", "ok", found)
    remedy = f"below checks.all_reduce_gb_s={limit:g}: see NVLink (nvidia-smi nvlink --status)"
    return Finding("all_reduce", "bad", found, remedy, of_node=True)


def _seconds(work: Callable[[], object]) -> float:
    """The seconds of a round of work on GPUs, on average."""
    for _ in range(_WARM_UP):
        work()
    _synchronize()
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        work()
    _synchronize()
    return (time.perf_counter() - began) / _ROUNDS


def _synchronize() -> None:
    import torch

    for index in range(torch.cuda.device_count()):
        torch.cuda.synchronize(index)
