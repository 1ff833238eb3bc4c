"""Whether a rank fits in its GPU, by the plan; kit/cluster/preflight/host_memory.py looks at the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.output.quantities import size
from kit.plan import fit, memory, shape

if TYPE_CHECKING:
    from kit.cluster.preflight.finding import Site


def needed(site: Site) -> Finding:
    """Whether the computed memory is there; too little for certain is bad."""
    if site.cluster.device == "cpu":
        raise NotChecked("device: cpu")
    if site.cluster.training.accelerator is None:
        raise NotChecked("cluster.training.accelerator names no GPU")
    if misfit := fit.of_gpu(site.recipe, site.cluster):
        if misfit.certain:
            return Finding("memory", "bad", misfit.text, misfit.remedy)
        return warning("memory", misfit.text, misfit.remedy)
    setup = shape.setup(site.recipe, site.cluster)
    found = (
        f"a rank needs {size(memory.total(setup))} at micro-batch {setup.micro_batch} (computed)"
    )
    return Finding("memory", "ok", found)
