"""Probes of a machine for an issue report: versions, hardware, Slurm, a file system.

    for name, probe in machine(): print(name, probe())

A probe is a function without arguments that may raise any error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import runpy
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import __version__
from kit.cluster import state
from kit.config import presets
from kit.corpus import segment
from kit.errors import ClusterError
from kit.output import quantities
from kit.store.mounts import mount_of

if TYPE_CHECKING:
    from kit.config.cluster import Cluster

Probes = Iterator[tuple[str, Callable[[], Any]]]

PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "submitit", "neologdn", "textformatting",
            "wikiextractor", "mlflow", "mlflow-skinny", "tensorboard")  # fmt: skip
NOT_INSTALLED = "not installed"
# The settings that decide how a job is preempted, warned, ended and restarted.
SETTINGS = ("PreemptType", "PreemptMode", "PreemptParameters", "PreemptExemptTime", "KillWait",
            "MaxArraySize", "JobRequeue", "MinJobAge", "SlurmdTimeout", "ProctrackType",
            "SlurmctldParameters", "AccountingStorageType")  # fmt: skip
_OF_PARTITION = ("MaxTime", "GraceTime", "PreemptMode", "TotalNodes", "State")
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # flags of x86-64 and of AArch64 in /proc/cpuinfo
_PATIENCE = 30.0  # seconds for nvidia-smi: it wakes every GPU of the node first


def versions() -> Probes:
    """ekiden, Python, and the main packages."""
    yield "ekiden", lambda: f"{__version__}, {_commit()}"
    yield "Python", lambda: f"{platform.python_version()} ({platform.python_implementation()})"
    for name in PACKAGES:
        yield name, lambda name=name: _version(name)  # type: ignore[misc]
    yield "CUDA build of torch", _cuda_build


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _commit() -> str:
    """The commit of a checkout, and whether its code has changed since."""
    if presets.INSTALLED:
        return "from a package"
    if not (presets.OWN / ".git").exists():
        return "not a checkout"
    commit = _output("git", "-C", str(presets.OWN), "rev-parse", "--short=10", "HEAD").strip()
    changed = _output("git", "-C", str(presets.OWN), "status", "--porcelain", "--", "jobs", "kit")
    return f"commit {commit}" + (", changed since" if changed.strip() else "")


def _cuda_build() -> str | None:
    """The CUDA version in torch/version.py, read without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return NOT_INSTALLED
    version = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return "none, built for the CPU" if version.get("cuda") is None else str(version["cuda"])


def machine() -> Probes:
    """System, processor, memory, GPUs and segmenters."""
    yield "system", _system
    yield "CPU", _cpu
    yield "memory", _memory
    yield "bf16 on the CPU", _bf16
    yield "GPUs", _gpus
    yield "Juman++", lambda: segment.resolve("jumanpp")[1] if _has("jumanpp") else NOT_INSTALLED
    yield "MeCab", lambda: segment.resolve("mecab")[1]


def _has(program: str) -> bool:
    return shutil.which(program) is not None


def _system() -> str:
    name = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{name}, kernel {platform.release()}, {' '.join(platform.libc_ver())}, {platform.machine()}"


def _cpu() -> str:
    model = _cpuinfo("model name") or platform.processor() or "unknown model"
    usable = quantities.count(len(os.sched_getaffinity(0)), "core")
    return f"{model}: {usable} of {os.cpu_count()} usable"


def _memory() -> str:
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    total, free = (
        int(re.findall(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024
        for key in ("MemTotal", "MemAvailable")
    )
    return f"{quantities.size(total)}, {quantities.size(free)} available"


def _bf16() -> str:
    flags = {*(_cpuinfo("flags") or _cpuinfo("Features") or "").split()}
    return f"native ({', '.join(sorted(flags & _BF16))})" if flags & _BF16 else "not native"


def _cpuinfo(key: str) -> str | None:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    match = re.search(rf"^{key}\s*: (.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def _gpus() -> str | list[str]:
    if not _has("nvidia-smi"):
        return "no nvidia-smi on the PATH"
    query = "--query-gpu=name,memory.total,driver_version,compute_cap"
    rows = _output("nvidia-smi", query, "--format=csv,noheader").strip().splitlines()
    counts = Counter(row.strip() for row in rows)
    return [
        f"{count} x {', driver '.join(_gpu_and_driver(row))}" for row, count in counts.items()
    ] or "none found by nvidia-smi"


def _gpu_and_driver(row: str) -> tuple[str, str]:
    name, memory, driver, capability = (part.strip() for part in row.split(","))
    return f"{name}, {memory}, compute capability {capability}", driver


def _output(*command: str) -> str:
    """The output of a program. If it fails, raises OSError with its last line."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_PATIENCE, errors="replace"
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise OSError(f"{command[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout


def slurm(cluster: Cluster | None) -> Probes:
    """Slurm's settings, and the partitions named in a cluster file."""
    if not _has("scontrol"):
        yield "scontrol", lambda: "not on the PATH"
        return
    try:
        settings, partitions = state.configuration(), state.partitions()
    except ClusterError as error:
        reason = f"unknown: {error}"
        yield "scontrol", lambda: reason
        return
    yield "version", lambda: settings.get("SLURM_VERSION")
    for key in SETTINGS:
        yield key, lambda key=key: settings.get(key)  # type: ignore[misc]
    for name in _partitions(cluster):
        yield f"partition {name}", lambda name=name: _partition(partitions, name)  # type: ignore[misc]


def _partitions(cluster: Cluster | None) -> list[str]:
    """The partitions named in a cluster file."""
    sections = (
        (cluster.network, cluster.arrays, cluster.single, cluster.training) if cluster else ()
    )
    keys = [section.partition for section in sections if section and section.partition]
    return sorted({name for key in keys for name in key.split(",")})


def _partition(partitions: dict[str, dict[str, str]], name: str) -> str:
    if name not in partitions:
        return "Slurm has no such partition"
    settings = partitions[name]
    return ", ".join(f"{key}={settings[key]}" for key in _OF_PARTITION if key in settings)


def workspace(folder: Path) -> Probes:
    """The file system of a folder, which need not exist yet."""
    path = folder.absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    yield "folder", lambda: f"{path}{'' if existing == path else ' (does not exist yet)'}"
    yield "file system", lambda: _file_system(existing)
    yield "space", lambda: _space(existing)
    yield "inodes", lambda: _inodes(existing)


def _file_system(folder: Path) -> str:
    """Type and options of the folder's mount."""
    mount = mount_of(folder)
    return f"{mount.kind} ({mount.options})" if mount.options else mount.kind


def _space(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{quantities.size(usage.free)} free of {quantities.size(usage.total)}"


def _inodes(folder: Path) -> str:
    counts = os.statvfs(folder)
    return f"{counts.f_favail:,} free of {counts.f_files:,}" if counts.f_files else "not counted"
