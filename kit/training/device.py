"""What differs between a CPU and a GPU, in one place.

What has run so far has run on CPUs over gloo. Every line for a GPU follows the documentation of
torch 2.13 (`torch.cuda`, `torch.distributed`, "Reproducibility") and of NVIDIA's cuBLAS.

No device's random state is kept: `torch.manual_seed` seeds every device, and the loop calls it with
the number of the sample before each micro-batch.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """The device of one rank."""

    kind: str  # cpu or cuda
    local_rank: int

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU: with pinned host memory, NCCL, and kernels of its own."""
        return self.kind == "cuda"

    @property
    def backend(self) -> str:
        """The communication library of torch.distributed."""
        return "nccl" if self.is_gpu else "gloo"

    def prepare(self, *, deterministic: bool) -> torch.device:
        """Choose the device for this process; before anything is put on it."""
        if not self.is_gpu:
            # Sums over another number of threads round differently: one, whatever the machine.
            torch.set_num_threads(1)
            return torch.device("cpu")
        if deterministic:
            # cuBLAS reads it when its first handle is made; 8 buffers of 4 MiB (cuBLAS, 2.1.4).
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            # Of what torch refuses then, the loop does nothing: NLLLoss is refused for images only
            # (`nll_loss2d`), ours is of [tokens, vocabulary].
            torch.use_deterministic_algorithms(True)
        # A site may show a rank all GPUs of its node, or its own only (--gpus-per-task).
        index = self.local_rank % torch.cuda.device_count()
        torch.cuda.set_device(index)
        torch.cuda.reset_peak_memory_stats(index)
        return torch.device("cuda", index)

    def peak_memory(self) -> int:
        """The most memory in bytes that tensors (on a CPU: the process) have had until now."""
        if self.is_gpu:
            return int(torch.cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def settle(self) -> None:
        """Return when all that was asked of the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize()
