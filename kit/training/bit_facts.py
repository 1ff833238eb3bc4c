"""Versions, devices, kernels and variables that decide the last bits of results on one rank.

    bit_facts.of_rank(recipe, device)["facts"]["attention"]      # flash

These bits depend on the order in which terms are added: on the kernel that a library chooses, by its
version, the device and the environment. Of the recipe only what an amendment may change is in here. None of
this has run on a GPU.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend

from kit.models import architectures
from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.config.recipe import Recipe
    from kit.store.records import Numerics
    from kit.training.device import Device

FEATURES = "cpu_features"
_MATH = "math"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Variables by which libraries choose algorithms.
_OF_GPU = re.compile(
    r"(CUBLAS|CUDNN|NVIDIA_TF32|NCCL_|TORCH_(BLAS|CUBLAS|CUDNN|ALLOW_TF32|LINALG))"
)
_OF_CPU = re.compile(r"(MKL_|ONEDNN_|DNNL_|ATEN_CPU)")
# Of these: names of networks, logs, time-outs, and numbers of threads, which every rank sets for itself.
_HARMLESS = re.compile(
    r".*_(SOCKET_\w+|COMM_ID|DEBUG\w*|VERBOSE\w*|\w*DUMP\w*|\w*TRACE\w*|\w*TIMEOUT|NUM_THREADS|DYNAMIC)$"
)
_DRIVER = Path("/proc/driver/nvidia/version")
_LIBRARIES = Path("/proc/self/maps")  # those that this process has loaded, among others
_VECTORS = ("avx", "amx", "fma", "sve", "neon", "bf16", "i8mm", "sme")


def of_rank(recipe: Recipe, device: Device) -> Numerics:
    """Those of this rank; its device must be selected."""
    variables = choosing(os.environ, gpu=device.is_gpu, cpu=_cpu_computes(recipe, device))
    return {"facts": _facts(recipe, device), "environment": variables}


def choosing(variables: Mapping[str, str], *, gpu: bool, cpu: bool) -> dict[str, str]:
    """The variables among them by which libraries for these devices choose algorithms."""
    kinds = [_OF_GPU] * gpu + [_OF_CPU] * cpu
    return {
        name: value
        for name, value in sorted(variables.items())
        if any(kind.match(name) for kind in kinds) and not _HARMLESS.match(name)
    }


def _facts(recipe: Recipe, device: Device) -> dict[str, str]:
    facts = {name: importlib.metadata.version(name) for name in ("deepspeed", "transformers")}
    facts["torch"] = torch.__version__
    facts["device"] = torch.cuda.get_device_name() if device.is_gpu else device.kind
    facts["micro_batch"] = str(recipe.training.micro_batch)
    facts["attention"] = attention(recipe, device)
    facts["fp32_products"] = torch.backends.cuda.matmul.fp32_precision
    if device.is_gpu:
        facts |= dict(_of_gpu(deterministic=recipe.training.deterministic))
    if _cpu_computes(recipe, device):
        facts |= dict(_of_cpu())
    return facts


def _cpu_computes(recipe: Recipe, device: Device) -> bool:
    """Whether the update, at least, is computed on the CPU."""
    assert isinstance(recipe.training.deepspeed, dict)
    zero = recipe.training.deepspeed.get("zero_optimization", {})
    return not device.is_gpu or "offload_optimizer" in zero


def attention(recipe: Recipe, device: Device) -> str:
    """The attention of the recipe: `eager`, or the kernel that torch takes for its shape.

    Warns if that is the slow one on a GPU.
    """
    model, training = recipe.model, recipe.training
    if model.attention != "sdpa":
        return model.attention
    assert training.precision != "auto"  # resolved when the run is submitted
    architecture, width = architectures.of(model), model.n_embd // model.n_head
    query, key = (
        torch.empty(
            (training.micro_batch_size, heads, model.n_positions, width),
            dtype=_DTYPES[training.precision],
            device=device.kind,
            requires_grad=True,
        )
        for heads in (model.n_head, architecture.key_value_width // width)
    )
    choice = torch._fused_sdp_choice(
        *(query, key, key, None, architecture.dropout),
        is_causal=True,
        enable_gqa=query.shape != key.shape,
    )
    kernel = str(SDPBackend(choice).name).lower().removesuffix("_attention")
    if device.is_gpu and kernel == _MATH:
        log.warning(
            f"attention: torch has no fast kernel for heads {width} wide in {training.precision} on "
            f"{torch.cuda.get_device_name()}; its math kernel is slow, and keeps all scores in memory"
        )
    return kernel


def _of_gpu(*, deterministic: bool) -> Iterator[tuple[str, str]]:
    matmul = torch.backends.cuda.matmul
    nccl: Any = torch.cuda.nccl
    cudnn: Any = torch.backends.cudnn
    yield "driver", driver(_DRIVER)
    yield "cuda", str(torch.version.cuda)
    yield "cublas", cublas(_LIBRARIES)
    yield "cudnn", str(cudnn.version())
    yield "nccl", ".".join(map(str, nccl.version()))
    yield "deterministic", str(deterministic).lower()
    yield "attention_allowed", ", ".join(allowed_attention())
    # Partial sums of one product may be added in bf16 or fp16: torch's default, and cuBLAS's fastest.
    yield "bf16_sums", str(matmul.allow_bf16_reduced_precision_reduction).lower()
    yield "fp16_sums", str(matmul.allow_fp16_reduced_precision_reduction).lower()


def allowed_attention() -> list[str]:
    """The kernels that scaled_dot_product_attention may take."""
    cuda: Any = torch.backends.cuda
    enabled = {
        "flash": cuda.flash_sdp_enabled(),
        "efficient": cuda.mem_efficient_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
        _MATH: cuda.math_sdp_enabled(),
    }
    return [name for name, on in enabled.items() if on]


def driver(path: Path) -> str:
    """The version of the NVIDIA driver, from its file in /proc."""
    try:
        found = re.search(r"Module.*?\s(\d+\.\d+(\.\d+)?)\s", path.read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else "unknown"


def cublas(libraries: Path) -> str:
    """The version of the cuBLAS that this process has loaded, by its own answer; torch has none."""
    loaded = re.search(r"/\S*/libcublas\.so\S*", libraries.read_text(encoding="utf-8"))
    if loaded is None:
        return "unknown"
    answer = ctypes.CDLL(loaded[0]).cublasGetProperty
    parts = [ctypes.c_int(-1) for _ in range(3)]  # libraryPropertyType: major, minor, patch
    for kind, part in enumerate(parts):
        answer(kind, ctypes.byref(part))
    return ".".join(str(part.value) for part in parts)


def _of_cpu() -> Iterator[tuple[str, str]]:
    """Torch, MKL and oneDNN choose their code by instructions, caches and threads."""
    able = torch.cpu.get_capabilities()
    cache = able.get("l2_cache_size", 0) // 1024
    yield "cpu", f"{able.get('cpu_name', 'unknown')}, {cache:,} KiB of L2 cache"
    yield "isa", torch.backends.cpu.get_cpu_capability()
    names = sorted(name for name, has in able.items() if has is True and name.startswith(_VECTORS))
    yield FEATURES, " ".join(names)
    native = torch.ops.mkldnn  # oneDNN's own answers, which respect ONEDNN_MAX_CPU_ISA
    yield "onednn_bf16", str(native._is_mkldnn_bf16_supported()).lower()
    yield "onednn_fp16", str(native._is_mkldnn_fp16_supported()).lower()
    yield "threads", str(torch.get_num_threads())
