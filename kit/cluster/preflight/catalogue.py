"""All checks by name, and where each belongs: on the login node, on a node of the training, at a start."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kit.cluster.preflight import (
    bandwidth,
    clock,
    deepspeed,
    disk,
    durability,
    gpus,
    host_memory,
    kernel_log,
    memory,
    mlflow,
    network,
    packages,
    quota,
    slurm,
)
from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.config.checks import OF_GPUS
from kit.errors import EkidenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kit.cluster.preflight.finding import Check, Site

CHECKS: dict[str, Check] = {
    "limits": slurm.limits,
    "account": slurm.account,
    "submission": slurm.submission,
    "host_memory": host_memory.host_memory,
    "space": disk.space,
    "inodes": disk.inodes,
    "quota": quota.quota,
    "durable": durability.durable,
    "create": disk.create,
    "rename": disk.rename,
    "locks": disk.locks,
    "write_rate": disk.write_rate,
    "sync_time": disk.sync_time,
    "clock": clock.clock,
    "memory": memory.needed,
    "packages": packages.packages,
    "port": network.port,
    "address": network.address,
    "deepspeed": deepspeed.deepspeed,
    "compiler": deepspeed.compiler,
    "mlflow": mlflow.mlflow,
    "gpu_count": gpus.gpu_count,
    "gpu_model": gpus.gpu_model,
    "gpu_memory": gpus.gpu_memory,
    "gpu_ecc": gpus.gpu_ecc,
    "gpu_xid": kernel_log.gpu_xid,
    "gpu_throttling": gpus.gpu_throttling,
    "gpu_peers": gpus.gpu_peers,
    "host_to_device": bandwidth.host_to_device,
    "all_reduce": bandwidth.all_reduce,
}
# On a login node: what is the same for all nodes, and what the submission itself needs.
_ON_LOGIN = (
    "limits", "account", "submission", "memory", "host_memory", "space", "inodes", "quota", "durable",
    "create", "rename", "locks", "write_rate", "sync_time", "clock",
)  # fmt: skip
_ON_NODE = (
    "host_memory", "durable", "create", "rename", "write_rate", "sync_time", "clock", "packages", "port",
    "address", "deepspeed", "compiler", "mlflow", *OF_GPUS,
)  # fmt: skip
# At each start: what takes milliseconds. The packages are compared by every task already.
_AT_START = (
    "host_memory", "space", "inodes", "create", "rename", "clock", "address", "gpu_count", "gpu_model",
    "gpu_memory", "gpu_ecc", "gpu_throttling", "gpu_peers",
)  # fmt: skip
# Answers of a file system that a job would get too.
_REFUSALS = frozenset({
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE,
})  # fmt: skip


def on_login(site: Site) -> list[str]:
    """The names of the checks for a login node; on a cluster of one machine, of all."""
    return _wanted(site, CHECKS if site.cluster.is_this_machine else _ON_LOGIN)


def on_node(site: Site) -> list[str]:
    """The names of the checks for a node of the training."""
    return _wanted(site, _ON_NODE)


def at_start(site: Site) -> list[str]:
    """The names of the checks that precede an attempt."""
    alone = site.cluster.training.nodes == 1
    names = _wanted(site, _AT_START)
    return [name for name in names if not (alone and name == "address")]


def run(
    site: Site, names: Iterable[str], skip: Callable[[str, str], object] = lambda *_: None
) -> Iterator[Finding]:
    """The findings of some checks; `skip` is called with a check that does not apply, and why."""
    for name in names:
        try:
            yield CHECKS[name](site)
        except NotChecked as reason:
            skip(name, str(reason))
        except OSError as error:
            if error.errno not in _REFUSALS:
                yield _failed(name, error)
                continue
            where = f"{error.filename}: " if error.filename else ""
            remedy = "see that the workspace can be written from here"
            yield Finding(name, "bad", f"{where}{error.strerror}", remedy)
        except Exception as error:  # a check that fails says nothing about the site
            yield _failed(name, error)


def _failed(name: str, error: Exception) -> Finding:
    text = str(error) if isinstance(error, EkidenError) else f"{type(error).__name__}: {error}"
    found = f"could not be checked ({' '.join(text.split())})"
    return warning(name, found, "look into it, or skip this check")


def _wanted(site: Site, names: Iterable[str]) -> list[str]:
    gpu = site.cluster.device == "cuda"
    skip = site.cluster.checks.skip
    return [name for name in names if name not in skip and (gpu or name not in OF_GPUS)]
