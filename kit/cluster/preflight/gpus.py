"""The GPUs of this machine that the job may use, by NVML, the library behind nvidia-smi.

Nothing here has run on a GPU: the tests put a stand-in for `pynvml` in its place.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.output import quantities
from kit.output.quantities import size
from kit.plan import fit, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.cluster.preflight.finding import Site

# A process of the job before may still be ending, and a GPU cooling down.
_TRIES, _PAUSE = 5, 4.0  # readings and seconds between them, before a fault that may pass is bad
_RESET = "reset the GPU (nvidia-smi --gpu-reset), or have the node drained"


class Gpu(NamedTuple):
    """A GPU, by its number in CUDA_VISIBLE_DEVICES; without a handle NVML cannot reach it."""

    label: str
    handle: Any | None


def gpu_count(site: Site) -> Finding:
    """Whether there is a GPU for each rank, and NVML reaches all that the job was given."""
    try:
        gpus, needed = _visible(_nvml()), site.cluster.training.ranks_per_node
    except NotChecked as silent:
        remedy = "see whether nvidia-smi works there: none of the GPUs was checked"
        return warning("gpu_count", str(silent), remedy)
    lost = [gpu.label for gpu in gpus if gpu.handle is None]
    if lost:
        found = f"{_names(lost)}: given to this job, but the driver does not reach {_them(lost)}"
        return Finding("gpu_count", "bad", found, _RESET, of_node=True)
    found = quantities.count(len(gpus), "GPU")
    # Under Slurm a rank may see only its own GPU.
    if len(gpus) >= needed or (len(gpus) == 1 and "SLURM_JOB_ID" in os.environ):
        return Finding("gpu_count", "ok", found)
    remedy = "lower cluster.training.ranks_per_node, or raise gpus_per_node"
    return Finding("gpu_count", "bad", f"{found} for {needed} ranks", remedy)


def gpu_model(site: Site) -> Finding:
    """Whether they are of the model in the cluster file, and alike."""
    nvml, expected = _nvml(), site.cluster.training.accelerator
    names = {_text(nvml.nvmlDeviceGetName(handle)) for _, handle in _reached(nvml)}
    found = ", ".join(sorted(names))
    if len(names) > 1:
        remedy = "the slowest sets the pace; ask for one model (cluster.training.sbatch.constraint)"
        return warning("gpu_model", f"different models: {found}", remedy)
    words = {*re.split(r"[^a-z0-9]+", found.lower())}
    if expected is None or words >= {*expected.split("-")}:
        return Finding("gpu_model", "ok", found)
    remedy = "correct that key: MFU and precision: auto depend on it"
    return warning("gpu_model", f"{found}, but cluster.training.accelerator={expected}", remedy)


def gpu_memory(site: Site) -> Finding:
    """Whether the memory that a rank needs is free; somebody else's process may hold the rest."""
    nvml = _nvml()
    return _patient(lambda: _memory(site, nvml))


def gpu_ecc(site: Site) -> Finding:  # noqa: ARG001
    """Uncorrectable errors of their memory since the driver was loaded, and rows without a spare."""
    nvml, pending = _nvml(), []
    for label, handle in _reached(nvml):
        kind = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
        errors = _value(nvml, nvml.nvmlDeviceGetTotalEccErrors, handle, *kind) or 0
        rows = _value(nvml, nvml.nvmlDeviceGetRemappedRows, handle) or (0, 0, 0, 0)
        if errors:
            found = f"GPU {label}: {quantities.count(errors, 'uncorrectable memory error')}"
            return Finding("gpu_ecc", "bad", found, _RESET, of_node=True)
        if rows[3]:
            found = f"GPU {label}: a faulty row of its memory could not be remapped"
            return Finding("gpu_ecc", "bad", found, "have the GPU replaced", of_node=True)
        if rows[2]:
            pending.append(label)
    if pending:
        return warning("gpu_ecc", f"{_names(pending)}: a row waits to be remapped", _RESET)
    return Finding("gpu_ecc", "ok", "no uncorrectable memory error")


def gpu_throttling(site: Site) -> Finding:  # noqa: ARG001
    """Whether heat or the power supply lowers their clocks before they have anything to do."""
    nvml = _nvml()
    return _patient(lambda: _throttling(nvml))


def gpu_peers(site: Site) -> Finding:  # noqa: ARG001
    """Whether each reaches the memory of the others without a detour over the host."""
    nvml = _nvml()
    gpus = [*_reached(nvml)]
    if len(gpus) < 2:
        raise NotChecked("this process sees one GPU")
    apart = [
        f"{one.label} and {other.label}"
        for number, one in enumerate(gpus)
        for other in gpus[number + 1 :]
        if not _are_peers(nvml, one.handle, other.handle)
    ]
    if not apart:
        return Finding("gpu_peers", "ok", "each reaches the memory of the others")
    more = f" and {quantities.count(len(apart) - 1, 'other pair')}" if len(apart) > 1 else ""
    remedy = "reduction over the host is slower; see NVLink and the IOMMU's settings (ACS)"
    return warning("gpu_peers", f"GPUs {apart[0]}{more} do not reach each other", remedy)


def _memory(site: Site, nvml: Any) -> Finding:
    needed, most, lines = fit.least(shape.setup(site.recipe, site.cluster)), 0, []
    for label, handle in _reached(nvml):
        reading = nvml.nvmlDeviceGetMemoryInfo(handle)
        most = max(most, reading.used)
        held = reading.used > site.cluster.checks.gpu_used_gb * 1e9
        if held and reading.free < needed <= reading.total:
            who = _processes(nvml, handle)
            found = f"GPU {label}: {size(reading.used)} of {size(reading.total)} in use{who}"
            found += f", and a rank needs {size(needed)}"
            return Finding("gpu_memory", "bad", found, "end that process", of_node=True)
        if held:
            lines.append(f"GPU {label}: {size(reading.used)} in use{_processes(nvml, handle)}")
    if lines:
        return warning("gpu_memory", "; ".join(lines), "see whose process that is: nvidia-smi")
    return Finding("gpu_memory", "ok", f"at most {size(most)} in use")


def _processes(nvml: Any, handle: Any) -> str:
    """Who uses a GPU, as far as this user may see."""
    running = _value(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    numbers = [str(process.pid) for process in running]
    return f" by process {', '.join(numbers)}" if numbers else ""


def _throttling(nvml: Any) -> Finding:
    hardware = (
        nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    )
    warm = []
    for label, handle in _reached(nvml):
        reasons = _value(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
        if reasons & hardware:
            heat = reasons & nvml.nvmlClocksThrottleReasonHwThermalSlowdown
            found = f"GPU {label}: slowed down by {'heat' if heat else 'its power supply'}"
            remedy = "have the cooling and the power of the node seen to"
            return Finding("gpu_throttling", "bad", found, remedy, of_node=True)
        if reasons & nvml.nvmlClocksThrottleReasonSwThermalSlowdown:
            warm.append(label)
    if warm:
        remedy = "have the cooling of the node seen to"
        return warning(
            "gpu_throttling", f"{_names(warm)}: the driver lowers clocks for heat", remedy
        )
    return Finding("gpu_throttling", "ok", "clocks are not lowered")


def _patient(look: Callable[[], Finding]) -> Finding:
    """Look again for a while before a fault of the node that may pass counts."""
    for _ in range(_TRIES - 1):
        if not (finding := look()).of_node:
            return finding
        time.sleep(_PAUSE)
    return look()


def _nvml() -> Any:
    """NVML, initialised. Raises NotChecked if it does not answer."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()  # counted: only the first call takes time
    except Exception as error:
        raise NotChecked(f"NVML does not answer ({error})") from None
    return nvml


def _visible(nvml: Any) -> list[Gpu]:
    """The GPUs in CUDA_VISIBLE_DEVICES, or all that this user may use.

    Its numbers count those: where a site hides GPUs of other jobs, NVML lists them and refuses access.
    Raises NotChecked for parts of GPUs (MIG).
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbered = _numbered(nvml)
    if given is None:
        return [gpu._replace(label=str(number)) for number, gpu in enumerate(numbered)]
    labels = [label.strip() for label in given.split(",") if label.strip()]
    if any(label.startswith("MIG-") for label in labels):
        raise NotChecked("a part of a GPU (MIG)")
    found: list[Gpu] = []
    for label in labels:
        if not label.isdecimal():
            found += _answer(nvml, label, functools.partial(nvml.nvmlDeviceGetHandleByUUID, label))
        elif int(label) < len(numbered):
            found.append(numbered[int(label)]._replace(label=label))
    return found


def _numbered(nvml: Any) -> list[Gpu]:
    """All GPUs that this user may use, in NVML's order, with those that are lost."""
    return [
        gpu
        for index in range(nvml.nvmlDeviceGetCount())
        for gpu in _answer(
            nvml, str(index), functools.partial(nvml.nvmlDeviceGetHandleByIndex, index)
        )
    ]


def _answer(nvml: Any, label: str, handle_of: Callable[[], Any]) -> list[Gpu]:
    """The GPU with its handle, or without if it is lost; nothing if this user may not use it."""
    try:
        handle = handle_of()
        nvml.nvmlDeviceGetName(handle)  # a lost GPU has a handle, and answers nothing
    except nvml.NVMLError as error:
        faults = (
            nvml.NVML_ERROR_GPU_IS_LOST,
            nvml.NVML_ERROR_RESET_REQUIRED,
            nvml.NVML_ERROR_UNKNOWN,
        )
        return [Gpu(label, None)] if error.value in faults else []
    return [Gpu(label, handle)]


def _reached(nvml: Any) -> Iterator[Gpu]:
    """The GPUs that answer. Raises NotChecked if none does."""
    gpus = [gpu for gpu in _visible(nvml) if gpu.handle is not None]
    if not gpus:
        raise NotChecked("no GPU answers")
    yield from gpus


def _are_peers(nvml: Any, one: Any, other: Any) -> bool:
    read = nvml.NVML_P2P_CAPS_INDEX_READ
    status = _value(nvml, nvml.nvmlDeviceGetP2PStatus, one, other, read)
    return status in (None, nvml.NVML_P2P_STATUS_OK)  # None: an old driver does not say


def _value(nvml: Any, function: Any, *arguments: Any) -> Any:
    """The answer of a function of NVML; None if the GPU or the driver does not support it."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _names(labels: Sequence[str]) -> str:
    return f"GPU{'s' if len(labels) > 1 else ''} {', '.join(labels)}"


def _them(labels: Sequence[str]) -> str:
    return "them" if len(labels) > 1 else "it"


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
