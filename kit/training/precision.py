"""What `training.precision: auto` is on a cluster's device: decided at submission, with the reason.

    precision, reason = resolve(cluster)          # "fp32", "the device is a CPU"
    warning("bf16", cluster)                      # a line, on a CPU that multiplies bf16 slowly

A job is often submitted from a node that has no GPU: there the name of the accelerator in the cluster
file decides. What was assumed, the ranks check before they train (kit/training/device.py).
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from kit.config.devices import ACCELERATORS, BF16_CAPABILITY

if TYPE_CHECKING:
    import torch

    from kit.config.cluster import Cluster
    from kit.config.recipe import Precision

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}  # torch's names
_PATIENCE = 30.0  # seconds for nvidia-smi: it wakes every GPU of the node first
_SIDE = 256  # of the matrices that are multiplied to tell what bf16 costs: some milliseconds
_TIMES = 3


def resolve(cluster: Cluster) -> tuple[Precision, str]:
    """The precision that `auto` means on a cluster (bf16, fp16 or fp32), and why."""
    if cluster.device == "cpu":
        return "fp32", "the device is a CPU"
    name = cluster.training.accelerator
    if name is not None:
        return _on_gpu(ACCELERATORS[name].capability, f"cluster.training.accelerator={name}")
    if cluster.is_this_machine:
        found = _capability_here()
        if found is not None:
            return _on_gpu(found, "this machine's GPU")
    return "bf16", (
        "the cluster file names no cluster.training.accelerator: a GPU of compute capability "
        f"{BF16_CAPABILITY} or higher is assumed"
    )


def warning(precision: Precision, cluster: Cluster) -> str | None:
    """What a precision costs on a CPU that cannot compute in it by itself, in one line; else None."""
    if cluster.device != "cpu" or precision == "fp32":
        return None
    import torch

    # oneDNN's own answers, which heed ONEDNN_MAX_CPU_ISA; torch has no public name for them.
    native = {
        "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
        "fp16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    if native[precision]():
        return None
    times = _seconds(getattr(torch, _DTYPES[precision])) / _seconds(torch.float32)
    return (
        f"training.precision={precision}: this CPU has no native {precision}; a product of two matrices "
        f"takes {times:.0f} times as long as in fp32 here. auto is fp32 on a CPU"
    )


def _on_gpu(capability: float, source: str) -> tuple[Precision, str]:
    reason = f"{source}: compute capability {capability}"
    if capability >= BF16_CAPABILITY:
        return "bf16", reason
    return "fp16", f"{reason}, and bf16 needs {BF16_CAPABILITY}"


def _capability_here() -> float | None:
    """The least compute capability of this machine's GPUs, by nvidia-smi; None where it does not tell."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        shown = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE
        ).stdout
        return min(float(line) for line in shown.split())
    except (OSError, subprocess.SubprocessError, ValueError):  # no GPU, or a driver before 510
        return None


def _seconds(dtype: torch.dtype) -> float:
    """The shortest time of some products of two matrices."""
    import torch

    one = torch.ones(_SIDE, _SIDE, dtype=dtype)
    shortest = float("inf")
    for _ in range(_TIMES):
        began = time.perf_counter()
        one @ one
        shortest = min(shortest, time.perf_counter() - began)
    return shortest
