"""Whether a run fits in the memory of its GPUs and of its nodes, and changes that make it fit.

    for misfit in fit.misfits(recipe, cluster):
        misfit.text, misfit.remedy, misfit.certain

The figures are those of `kit/plan/memory.py`. A misfit is certain if even an estimate that is a tenth too
high, and without allowances, is above the limit.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from kit.config.devices import ACCELERATORS
from kit.output.quantities import size
from kit.plan import host, memory, shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.plan.memory import Setup

_ERROR = 0.9  # the computed memory may be this much too large: docs/planning.md compares it with rehearsals
SLURM_GB = 2.0**30  # bytes of memory_gb: it goes to sbatch as 1024 M each


class Misfit(NamedTuple):
    """A memory that is too small, with the figures and a remedy."""

    text: str
    remedy: str
    certain: bool

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


def misfits(recipe: Recipe, cluster: Cluster) -> list[Misfit]:
    """All that does not fit: a rank into its GPU, or all ranks of a node into its host memory."""
    found = (of_gpu(recipe, cluster), _of_host(recipe, cluster))
    return [misfit for misfit in found if misfit is not None]


def least(setup: Setup) -> float:
    """The memory that tensors of a rank need at least, in bytes."""
    parts = memory.parts(setup)
    return _ERROR * sum(part.bytes for part in parts if part.name not in memory.ALLOWANCES)


def host_least(setup: Setup, ranks_per_node: int) -> float:
    """The memory that the ranks of a node need at least, in bytes, without assumed parts."""
    if not setup.gpu:
        return _ERROR * host.total(host.parts(setup, ranks_per_node))
    offloaded = ranks_per_node * memory.host_bytes(setup)
    return _ERROR * (offloaded + host.copied_bytes(setup, ranks_per_node))


def of_gpu(recipe: Recipe, cluster: Cluster) -> Misfit | None:
    """What does not fit into the GPU of a rank; None if it fits, or no GPU is named."""
    name, setup = cluster.training.accelerator, shape.setup(recipe, cluster)
    if name is None or not setup.gpu:
        return None
    limit, needed = ACCELERATORS[name].memory, memory.total(setup)
    if needed <= limit:
        return None
    text = f"training.micro_batch={setup.micro_batch}: a rank needs {size(needed)}, and {name} has "
    remedy = _remedy(setup, limit, recipe.training.global_batch // setup.ranks)
    larger = [
        other
        for other, gpu in ACCELERATORS.items()
        if other.startswith(f"{name}-") and gpu.memory >= needed
    ]
    if larger:
        remedy += f", or name the larger card: cluster.training.accelerator={larger[0]}"
    return Misfit(f"{text}{size(limit)} (computed)", remedy, least(setup) > limit)


def _remedy(setup: Setup, limit: float, blocks: int) -> str:
    """The changes that make it fit: one if there is one, else several together."""
    ways = [*_ways(setup, limit, blocks)]
    if ways:
        return f"set {' or '.join(ways)}"
    lighter = replace(setup, checkpointing=True, chunk=setup.chunk or setup.length)
    words = [] if setup.checkpointing else ["model.activation_checkpointing=true"]
    words += [] if setup.chunk else [f"training.loss_chunk={setup.length}"]
    for changed, more in (
        (lighter, []),
        (replace(lighter, offload=True), ["training.deepspeed=zero2-offload"]),
    ):
        if (found := memory.largest(changed, limit, blocks)) is not None:
            return f"set {' '.join([f'training.micro_batch={found}', *words, *more])}"
    return "take more GPUs, or larger ones"


def _ways(setup: Setup, limit: float, blocks: int) -> Iterator[str]:
    """Single changes that make it fit, the cheapest first."""
    one_block = f"training.loss_chunk={setup.length}"
    if setup.chunk is None and memory.total(replace(setup, chunk=setup.length)) <= limit:
        yield one_block
    if (found := memory.largest(setup, limit, blocks)) is not None:
        yield f"training.micro_batch={found}"
    if memory.total(replace(setup, checkpointing=True)) <= limit:
        yield "model.activation_checkpointing=true"


def _of_host(recipe: Recipe, cluster: Cluster) -> Misfit | None:
    setup, training = shape.setup(recipe, cluster), cluster.training
    limit, whose, remedy = host_limit(cluster)
    needed = host.total(host.parts(setup, training.ranks_per_node))
    if limit is None or needed <= limit:
        return None
    if setup.offload:
        remedy += ", or train without offload (training.deepspeed=zero2)"
    text = f"a node needs {size(needed)} of host memory, and {whose} (computed)"
    return Misfit(text, remedy, host_least(setup, training.ranks_per_node) > limit)


def host_limit(cluster: Cluster) -> tuple[float | None, str, str]:
    """The memory of a node as far as it is known, whose it is, and how to raise it."""
    if cluster.is_this_machine:
        own = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        return own, f"this machine has {size(own)}", "take a larger machine, or fewer ranks"
    given = cluster.training.memory_gb
    if given is None or cluster.replaced("training", "memory_gb"):
        return None, "", ""
    return given * SLURM_GB, f"cluster.training.memory_gb={given:g}", "raise it"
