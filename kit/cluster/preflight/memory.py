"""Whether a rank fits in its GPU and all ranks in the memory of their node, by the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.output.quantities import size
from kit.plan import fit, memory, shape

if TYPE_CHECKING:
    from kit.cluster.preflight.finding import Site


def needed(site: Site) -> Finding:
    """Whether the computed memory is there; what is certainly too little is bad."""
    misfits = fit.misfits(site.recipe, site.cluster)
    if misfits:
        found = "; ".join(misfit.text for misfit in misfits)
        remedy = "; ".join(misfit.remedy for misfit in misfits)
        if any(misfit.certain for misfit in misfits):
            return Finding("memory", "bad", found, remedy)
        return warning("memory", found, remedy)
    if site.cluster.device == "cuda" and site.cluster.training.accelerator is None:
        raise NotChecked("cluster.training.accelerator names no GPU")
    total = memory.total(shape.setup(site.recipe, site.cluster))
    return Finding("memory", "ok", f"a rank needs {size(total)} (computed)")
