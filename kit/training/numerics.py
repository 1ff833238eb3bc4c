"""How torch computes: set on purpose at the start of each rank, before it touches its device.

    numerics.settle("cuda", deterministic=True)

What is set here does not depend on torch's defaults or on a site's environment. docs/training.md says for
each operation what `deterministic` changes. Written against torch 2.13; on a GPU none of it has run.
"""

from __future__ import annotations

import os

import torch

from kit.errors import ConfigError

# cuBLAS adds in one order on each of its streams only with one of these (cuBLAS, 2.1.4). Torch refuses
# matrix products with any other in deterministic mode. 8 buffers of 4 MiB, or of 16 KiB.
_CUBLAS, _CUBLAS_VALUES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
# NVSwitches of Hopper and later can add up themselves (NVLS), in any order (NVIDIA/nccl, issue 1497).
_NCCL, _NO_NVLS = "NCCL_ALGO", "^NVLS"


def settle(kind: str, *, deterministic: bool) -> None:
    """Set precision and kernels of this process, for training on a device of that kind.

    cuBLAS and NCCL read the environment when they start, so call it before anything of them. Raises
    ConfigError for a variable that contradicts `deterministic`.
    """
    _no_reduced_fp32()
    _choose_attention(deterministic=deterministic)
    if deterministic and kind == "cuda":
        _only_deterministic_kernels()


def _no_reduced_fp32() -> None:
    """Multiply fp32 matrices as fp32: not as TF32 on a GPU, nor as bf16 in oneDNN.

    Only `training.precision: fp32` has such products, and means fp32: bf16 is faster still. Torch has two
    interfaces, and raises RuntimeError where they disagree. This one sets both: the older one, and the
    `fp32_precision` of cuBLAS and oneDNN to which kernels listen. It overrides
    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE; NVIDIA_TF32_OVERRIDE goes past torch, and is on record.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def _choose_attention(*, deterministic: bool) -> None:
    """Allow torch's kernels of scaled_dot_product_attention: it takes the fastest that knows the shape.

    All of them, but for cuDNN's in deterministic mode: its backward pass adds in any order. Flash and
    efficient attention have a deterministic one.
    """
    cuda = torch.backends.cuda
    cuda.enable_flash_sdp(True)
    cuda.enable_mem_efficient_sdp(True)
    cuda.enable_math_sdp(True)
    cuda.enable_cudnn_sdp(not deterministic)


def _only_deterministic_kernels() -> None:
    os.environ.setdefault(_NCCL, _NO_NVLS)
    os.environ.setdefault(_CUBLAS, _CUBLAS_VALUES[0])
    if (value := os.environ[_CUBLAS]) not in _CUBLAS_VALUES:
        allowed = " or ".join(_CUBLAS_VALUES)
        raise ConfigError(
            f"{_CUBLAS}={value}: training.deterministic=true allows {allowed} only; remove the variable "
            "from the environment and from cluster.environment"
        )
    torch.use_deterministic_algorithms(True)
    # It would fill each new tensor, such as DeepSpeed's buckets; a check for reads of what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
