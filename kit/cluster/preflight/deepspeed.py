"""Operators of DeepSpeed that would be compiled at the start of training, and training.compile.

The optimizer is torch's AdamW (kit/training/engine.py), so DeepSpeed needs none of its own; with the CPU's
offload neither, as that optimizer is forced only by `zero_force_ds_cpu_optimizer`.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster.preflight.finding import Finding, NotChecked, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.cluster.preflight.finding import Site


def deepspeed(site: Site) -> Finding:
    """Whether DeepSpeed 0.19 would compile an operator, and could."""
    needed = list(dict.fromkeys(operators(site.recipe.training.deepspeed)))
    missing = [name for name in needed if not _built().get(name)]
    if not missing:
        built = f": {', '.join(needed)} built" if needed else ""
        return Finding("deepspeed", "ok", f"nothing to compile{built}")
    found = f"{', '.join(missing)} would be compiled at the start, on each node"
    remedy = f"reinstall DeepSpeed with {_built_in(missing)}"
    tools = " and ".join(name for name in (_compiler(), "ninja") if shutil.which(name) is None)
    if tools:
        return Finding(
            "deepspeed", "bad", f"{found}, without {tools}", f"install {tools}, or {remedy}"
        )
    return warning("deepspeed", found, remedy)


def compiler(site: Site) -> Finding:
    """Whether there is the compiler that torch.compile needs: Inductor's on a CPU, Triton's on a GPU."""
    if not site.recipe.training.compile:
        raise NotChecked("training.compile=false")
    names = (
        [_compiler()] if site.cluster.device == "cpu" else [os.environ.get("CC", "gcc"), "clang"]
    )
    if found := next((name for name in names if shutil.which(name)), None):
        return Finding("compiler", "ok", f"{shutil.which(found)}")
    remedy = f"install {names[0]}, or set training.compile=false"
    return Finding("compiler", "bad", f"training.compile=true: no {names[0]} on the PATH", remedy)


def operators(configuration: Any) -> Iterator[str]:
    """The operators that a DeepSpeed configuration loads at the start (DeepSpeed 0.19.8)."""
    zero = configuration.get("zero_optimization", {}) if isinstance(configuration, dict) else {}
    for key in ("offload_optimizer", "offload_param"):
        if (zero.get(key) or {}).get("device") == "nvme":
            yield "async_io"  # runtime/swap_tensor
    if zero.get("zenflow"):
        yield "cpu_adam"  # runtime/zenflow
    if any(zero.get(f"zero_quantized_{what}") for what in ("weights", "gradients")):
        yield "quantizer"  # runtime/comm/coalesced_collectives.py


def _built() -> dict[str, bool]:
    """The operators that were built with the package; it writes that when it is installed."""
    spec = importlib.util.find_spec("deepspeed")
    if spec is None or spec.origin is None:
        return {}
    note = Path(spec.origin).with_name("git_version_info_installed.py")
    built: dict[str, bool] = runpy.run_path(str(note))["installed_ops"] if note.is_file() else {}
    return built


def _built_in(names: list[str]) -> str:
    """The variables that build operators with the package, as its `BUILD_VAR` has them."""
    variables = {"async_io": "DS_BUILD_AIO"}
    return " ".join(f"{variables.get(name, f'DS_BUILD_{name.upper()}')}=1" for name in names)


def _compiler() -> str:
    return os.environ.get("CXX", "g++")  # as torch chooses it
