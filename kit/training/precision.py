"""Resolution of `training.precision: auto` for a cluster's device, at submission, with the reason.

    precision, reason = resolve(cluster)          # "fp32", "the device is a CPU"
    warning("bf16", cluster)                      # a line, on a CPU that multiplies bf16 slowly

A job is often submitted from a node without a GPU: there the name of the accelerator in the cluster
file decides. The ranks check the assumption before they train (kit/training/device.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.config.devices import ACCELERATORS, BF16_CAPABILITY
from kit.plan import gpus

if TYPE_CHECKING:
    import torch

    from kit.config.cluster import Cluster
    from kit.config.recipe import Precision

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}  # torch's names
_SIDE = 256  # of the matrices multiplied to measure the cost of a precision: some milliseconds
_REPEATS = 3


def resolve(cluster: Cluster) -> tuple[Precision, str]:
    """The precision that `auto` means on a cluster (bf16, fp16 or fp32), and the reason."""
    if cluster.device == "cpu":
        return "fp32", "the device is a CPU"
    name = cluster.training.accelerator
    if name is not None:
        return _on_gpu(ACCELERATORS[name].capability, f"cluster.training.accelerator={name}")
    if cluster.is_this_machine:
        capability = gpus.least("compute_cap")
        if capability is not None:
            return _on_gpu(capability, "this machine's GPU")
    return "bf16", (
        "cluster.training.accelerator is not set: a GPU of compute capability "
        f"{BF16_CAPABILITY} or higher is assumed"
    )


def warning(precision: Precision, cluster: Cluster) -> str | None:
    """One line on the cost of a precision that this CPU lacks; None if it has it, and on a GPU."""
    if cluster.device != "cpu" or precision == "fp32":
        return None
    import torch

    # oneDNN's own answers, which respect ONEDNN_MAX_CPU_ISA; torch has no public name for them.
    native = {
        "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
        "fp16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    if native[precision]():
        return None
    ratio = _seconds(getattr(torch, _DTYPES[precision])) / _seconds(torch.float32)
    return (
        f"training.precision={precision}: this CPU has no native {precision}; a matrix product "
        f"takes {ratio:.0f} times as long as in fp32 here; auto means fp32 on a CPU"
    )


def _on_gpu(capability: float, source: str) -> tuple[Precision, str]:
    reason = f"{source}: compute capability {capability}"
    if capability >= BF16_CAPABILITY:
        return "bf16", reason
    return "fp16", f"{reason}, but bf16 needs {BF16_CAPABILITY}"


def _seconds(dtype: torch.dtype) -> float:
    """The least processor time of several matrix products, on one thread.

    Other work on the machine does not count then; threads that wait for each other would.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    shortest = float("inf")
    for _ in range(_REPEATS):
        began = time.process_time()
        matrix @ matrix
        shortest = min(shortest, time.process_time() - began)
    torch.set_num_threads(threads)
    return shortest
