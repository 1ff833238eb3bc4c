"""Differences between CPUs and GPUs, in one place.

So far this has run only on CPUs, over gloo. Every line for a GPU follows the documentation of
torch 2.13 (`torch.cuda`, `torch.distributed`, "Reproducibility") and of NVIDIA's cuBLAS.

No device's random state is saved: the loop seeds it before each micro-batch, with a seed derived from the
sample number.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kit.config.devices import BF16_CAPABILITY
from kit.errors import ConfigError
from kit.output import quantities
from kit.training import host_heap
from kit.training.stopwatch import GpuStopwatch, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

_PORTABLE = 1  # cudaHostRegisterPortable


@dataclass(frozen=True)
class Device:
    """The device of one rank."""

    kind: str  # cpu or cuda
    local_rank: int

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU, with pinned host memory, NCCL, and its own kernels."""
        return self.kind == "cuda"

    @property
    def backend(self) -> str:
        """The communication library of torch.distributed."""
        return "nccl" if self.is_gpu else "gloo"

    def check(self, precision: str) -> None:
        """Raise ConfigError if this rank cannot train here: see the function `check`."""
        if self.is_gpu:
            # Under Slurm a rank may see only its own GPU.
            bound = torch.cuda.device_count() == 1 and "SLURM_JOB_ID" in os.environ
            check(precision, 1 if bound else self.local_rank + 1)

    def select(self) -> torch.device:
        """Choose this rank's device for this thread and for DeepSpeed, before any allocation."""
        if not self.is_gpu:
            return torch.device("cpu")
        # A site may show a rank all GPUs of its node, or its own only (--gpus-per-task).
        index = self.local_rank if torch.cuda.device_count() > 1 else 0
        os.environ["LOCAL_RANK"] = str(index)  # DeepSpeed uses it as the number of the GPU
        torch.cuda.set_device(index)
        return torch.device("cuda", index)

    def prepare(self) -> torch.device:
        """Select the device, before anything is allocated on it."""
        device = self.select()
        if not self.is_gpu:
            # Rounding of sums depends on the number of threads: one on every machine.
            torch.set_num_threads(1)
            host_heap.keep_freed_memory()
            return device
        torch.cuda.reset_peak_memory_stats(device)
        return device

    def seed(self, number: int) -> None:
        """Seed dropout on this device.

        `torch.manual_seed` seeds all kinds of devices, for which it formats its stack three times.
        """
        torch.default_generator.manual_seed(number)
        if self.is_gpu:
            torch.cuda.manual_seed(number)

    def staged(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in memory from which `send` can copy without a wait: page-locked, for a GPU."""
        return tensor.pin_memory() if self.is_gpu else tensor

    def send(self, staged: torch.Tensor) -> torch.Tensor:
        """Queue a copy to the device; torch keeps page-locked memory until it is done."""
        return staged.to(self.kind, non_blocking=True)

    def fetch(self, tensor: torch.Tensor) -> Callable[[], list[float]]:
        """Queue a copy of a vector to the host; the result, once called, waits for it and gives the values.

        Work that is queued later is not waited for.
        """
        if not self.is_gpu:
            return tensor.tolist
        copy = torch.empty_like(tensor, device="cpu", pin_memory=True)
        copy.copy_(tensor, non_blocking=True)
        # Blocking: a thread that waits leaves its core to the others.
        copied: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        copied.record()

        def values() -> list[float]:
            copied.synchronize()
            return copy.tolist()

        return values

    def peak_memory(self) -> int:
        """Peak memory of tensors (on a CPU: of the process) so far, in bytes."""
        if self.is_gpu:
            return int(torch.cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def allocated(self) -> int:
        """Memory of tensors at this moment, in bytes; 0 on a CPU, where torch does not count it."""
        return int(torch.cuda.memory_allocated()) if self.is_gpu else 0

    def forget_peak(self) -> None:
        """Count peaks from now on; on a CPU that of the process stays."""
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak_reserved(self) -> int:
        """Peak of the memory that torch held for tensors so far, in bytes; 0 on a CPU."""
        return int(torch.cuda.max_memory_reserved()) if self.is_gpu else 0

    def stopwatch(self) -> Stopwatch:
        """A stopwatch for work on the device."""
        return GpuStopwatch() if self.is_gpu else Stopwatch()

    def pin(self, address: int, size: int) -> None:
        """Lock host memory, so that a GPU copies to it at full speed and without waiting.

        Raises ConfigError if the driver refuses: the limit of locked memory, or of the container.
        """
        error = int(torch.cuda.cudart().cudaHostRegister(address, size, _PORTABLE))  # type: ignore[no-untyped-call]
        if error:
            raise ConfigError(
                f"device: cuda: {quantities.size(size)} of host memory for checkpoints cannot be locked "
                f"(cudaHostRegister: error {error}); raise cluster.training.memory_gb, or the limit of "
                "locked memory (ulimit -l)"
            )

    def synchronize(self) -> None:
        """Block until all work queued on the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize()


def check(precision: str, gpus: int) -> None:
    """Raise ConfigError if this machine cannot train in `precision` on `gpus` GPUs.

    A CPU build of torch, a missing or outdated driver, too few GPUs, a GPU that torch was not built
    for or that lacks bf16: each would otherwise crash the job, and be retried.
    """
    remedy = "see docs/install.md"
    if torch.version.cuda is None:
        raise ConfigError(
            f"device: cuda: torch {torch.__version__} is built for the CPU; install a CUDA build, {remedy}"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device: cuda: no usable GPU for torch {torch.__version__}, built for CUDA "
            f"{torch.version.cuda}: {_why_no_gpu()}; {remedy}"
        )
    if (count := torch.cuda.device_count()) < gpus:
        raise ConfigError(
            f"device: cuda: {quantities.count(gpus, 'rank')} per node, but torch sees "
            f"{quantities.count(count, 'GPU')} "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); each rank needs "
            "its own GPU: lower cluster.training.ranks_per_node, or request more GPUs"
        )
    for index in range(gpus):
        _check_gpu(index, precision, remedy)


def _check_gpu(index: int, precision: str, remedy: str) -> None:
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    version = ".".join(map(str, capability))
    built_for = [_capability_of(arch) for arch in torch.cuda.get_arch_list()]
    if built_for and capability < min(built_for):
        raise ConfigError(
            f"device: cuda: {name} has compute capability {version}, but torch {torch.__version__} is "
            f"built for {'.'.join(map(str, min(built_for)))} and up; install a build for an older CUDA, "
            f"{remedy}"
        )
    if precision == "bf16" and float(version) < BF16_CAPABILITY:
        raise ConfigError(
            f"training.precision=bf16: {name} has compute capability {version}, but bf16 needs "
            f"{BF16_CAPABILITY}; use training.precision=fp16, with another name= if the run has started"
        )


def _capability_of(arch: str) -> tuple[int, int]:
    """The compute capability of an architecture: sm_86 is (8, 6), compute_120 (12, 0), sm_90a (9, 0)."""
    digits = "".join(filter(str.isdigit, arch))
    return int(digits[:-1]), int(digits[-1])


def _why_no_gpu() -> str:
    """torch's explanation: no driver, or one that is too old."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0]
    return "no GPU is visible"
