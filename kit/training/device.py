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

from kit.config.devices import BF16_CAPABILITY
from kit.errors import ConfigError
from kit.output import quantities


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

    def check(self, precision: str) -> None:
        """Raises ConfigError where this rank cannot train here: see `check`."""
        if self.is_gpu:
            # Under Slurm each rank may see one GPU, its own.
            bound = torch.cuda.device_count() == 1 and "SLURM_JOB_ID" in os.environ
            check(precision, 1 if bound else self.local_rank + 1)

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
        index = self.local_rank if torch.cuda.device_count() > 1 else 0
        os.environ["LOCAL_RANK"] = str(index)  # DeepSpeed takes it for the number of the GPU
        torch.cuda.set_device(index)
        torch.cuda.reset_peak_memory_stats(index)
        return torch.device("cuda", index)

    def peak_memory(self) -> int:
        """The most memory in bytes that tensors (on a CPU: the process) have had until now."""
        if self.is_gpu:
            return int(torch.cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def synchronize(self) -> None:
        """Return when all that was asked of the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize()


def check(precision: str, gpus: int) -> None:
    """Raises ConfigError where this machine cannot train in a precision on so many GPUs.

    A CPU build of torch, a driver that is missing or too old, too few GPUs, one that torch was not
    built for, or that lacks bf16: each would otherwise end as a crash, and be tried again.
    """
    remedy = "see docs/install.md"
    if torch.version.cuda is None:
        raise ConfigError(
            f"device: cuda: torch {torch.__version__} is built for the CPU; install a CUDA build, {remedy}"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device: cuda: no GPU to be used by torch {torch.__version__}, built for CUDA "
            f"{torch.version.cuda}: {_why_no_gpu()}; {remedy}"
        )
    if (count := torch.cuda.device_count()) < gpus:
        raise ConfigError(
            f"device: cuda: {quantities.count(gpus, 'rank')} a node, and torch sees "
            f"{quantities.count(count, 'GPU')} "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); a rank has a "
            "GPU of its own: lower cluster.training.ranks_per_node, or ask for more GPUs"
        )
    for index in range(gpus):
        _check_gpu(index, precision, remedy)


def _check_gpu(index: int, precision: str, remedy: str) -> None:
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    shown = ".".join(map(str, capability))
    built_for = [_capability_of(arch) for arch in torch.cuda.get_arch_list()]
    if built_for and capability < min(built_for):
        raise ConfigError(
            f"device: cuda: {name} has compute capability {shown}, and torch {torch.__version__} is built "
            f"for {'.'.join(map(str, min(built_for)))} and up; install a build for an older CUDA, {remedy}"
        )
    if precision == "bf16" and float(shown) < BF16_CAPABILITY:
        raise ConfigError(
            f"training.precision=bf16: {name} has compute capability {shown}, and bf16 needs "
            f"{BF16_CAPABILITY}; give training.precision=fp16, under another name= if the run has begun"
        )


def _capability_of(arch: str) -> tuple[int, int]:
    """sm_86 as (8, 6), compute_120 as (12, 0), sm_90a as (9, 0)."""
    digits = "".join(filter(str.isdigit, arch))
    return int(digits[:-1]), int(digits[-1])


def _why_no_gpu() -> str:
    """What torch says where it finds no GPU: no driver, or one that is too old."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0]
    return "no GPU is visible"
