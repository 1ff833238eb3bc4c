"""`training.micro_batch: auto`: the largest that fits, by kit/plan/memory.py, and the reason.

    number, reason = resolve(recipe, cluster)

It divides the blocks that a rank has in a step. On a GPU the largest is the quickest. A CPU gains nothing
from more than the tokens of a few blocks: there activations and logits have the bound of `pipeline new`
(kit/plan/size.py), and the ranks share the memory of their node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kit.config.devices import ACCELERATORS
from kit.errors import ConfigError
from kit.output.quantities import count, size
from kit.plan import fit, gpus, host, memory, shape
from kit.plan.size import CPU_ACTIVATIONS

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.plan.memory import Setup

_GROWING = ("activations", "around them", "backward pass", "logits")  # with the micro-batch
_MIB = 2.0**20


def resolve(recipe: Recipe, cluster: Cluster) -> tuple[int, str]:
    """The micro-batch that `auto` means on a cluster, and the reason; precision is resolved.

    1 if not even that fits, which the checks at submission refuse. Raises ConfigError if the memory of the
    GPU is unknown.
    """
    setup = shape.setup(with_micro_batch(recipe, 1), cluster)
    sizes = divisors(recipe, setup.ranks)
    number, fits = (_on_gpu if setup.gpu else _on_cpu)(setup, cluster, sizes)
    if number is None:
        return 1, f"not even one block fits: {fits} (computed)"
    blocks = f"divides the {count(max(sizes), 'block')} of a rank's step"
    return number, f"the largest that {blocks} and fits: {fits} (computed)"


def with_micro_batch(recipe: Recipe, number: int, reason: str | None = None) -> Recipe:
    """The recipe with that micro-batch."""
    update = {"micro_batch": number, "micro_batch_reason": reason}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=update)})


def divisors(recipe: Recipe, ranks: int) -> list[int]:
    """The micro-batches by which `ranks` ranks can share a step, from 1 on; only 1 if they cannot."""
    part, rest = divmod(recipe.training.global_batch, ranks)
    return [1] if rest else [number for number in range(1, part + 1) if part % number == 0]


def _on_gpu(setup: Setup, cluster: Cluster, sizes: list[int]) -> tuple[int | None, str]:
    """The largest on a GPU, None if none fits, and what it takes there."""
    limit, whose = _gpu(cluster)
    found = memory.largest(setup, limit, max(sizes))
    needed = memory.total(replace(setup, micro_batch=found or 1))
    return found, f"a rank needs {size(needed)} of {whose} {size(limit)}"


def _on_cpu(setup: Setup, cluster: Cluster, sizes: list[int]) -> tuple[int | None, str]:
    """The same on a CPU, as far as the memory of its node is known."""
    of_node, whose, _ = fit.host_limit(cluster)
    setups = {number: replace(setup, micro_batch=number) for number in sizes}
    nodes = {
        n: host.total(host.parts(one, cluster.training.ranks_per_node)) for n, one in setups.items()
    }
    fitting = [n for n in sizes if of_node is None or nodes[n] <= of_node]
    if not fitting:
        return None, f"a node needs {size(nodes[1])}, and {whose}"
    light = [n for n in fitting if _growing(setups[n]) <= CPU_ACTIVATIONS]
    found = max(light, default=1)
    taken = f"{size(_growing(setups[found]))} of activations and logits"
    bound = f"at most {size(CPU_ACTIVATIONS)} on a CPU" if light else "with one block"
    return found, f"{taken}, {bound}"


def _gpu(cluster: Cluster) -> tuple[float, str]:
    """The memory of a rank's GPU, in bytes, and whose it is. Raises ConfigError if it is unknown."""
    name = cluster.training.accelerator
    if name is not None:
        return ACCELERATORS[name].memory, f"{name}'s"
    found = gpus.least("memory.total") if cluster.is_this_machine else None
    if found is None:
        raise ConfigError(
            "training.micro_batch=auto: the memory of the GPU is unknown; name it by "
            f"cluster.training.accelerator ({', '.join(ACCELERATORS)}), or give a number"
        )
    return found * _MIB, "this machine's GPU's"


def _growing(setup: Setup) -> float:
    """The bytes of the parts that grow with the micro-batch."""
    return sum(part.bytes for part in memory.parts(setup) if part.name in _GROWING)
