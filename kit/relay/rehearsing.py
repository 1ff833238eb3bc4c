"""Rehearse a recipe; with `training.micro_batch: auto`, search for the largest micro-batch that fits.

    report = rehearse(project, 50)          # that of kit/relay/rehearsal.py, and "micro_batch"

The search begins with the largest that fits by the plan, and steps down whenever a rank runs out of memory.
The rehearsal that ends well is on record: `submit` takes its micro-batch (kit/run/micro_batch.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.run import Project
from kit.config.section import read_resolved
from kit.errors import EkidenError
from kit.output import program
from kit.plan import micro_batch
from kit.relay import rehearsal
from kit.relay.fitting import out_of_memory, search

if TYPE_CHECKING:
    Report = dict[str, Any]


def rehearse(
    project: Project, steps: int, *, with_synthetic: bool = False, profile: bool = False
) -> Report:
    """As `rehearsal.rehearse`; the report says in `micro_batch` which was found, null if it was given.

    Raises ConfigError if the memory of the GPU is unknown, ClusterError or JobFailed if nothing fits.
    """

    def once(recipe: Recipe) -> Report:
        tried = Project(project.run, recipe, project.cluster)
        return rehearsal.rehearse(tried, steps, with_synthetic=with_synthetic, profile=profile)

    recipe = project.recipe
    if recipe.training.micro_batch_reason is None:
        return once(recipe) | {"micro_batch": None}
    number, reason = micro_batch.resolve(recipe, project.cluster)
    sizes = [n for n in micro_batch.divisors(recipe, project.cluster.training.ranks) if n <= number]
    reports: list[Report] = []

    def fits(number: int) -> bool:
        nonlocal reason  # on record with the number
        try:
            reports.append(once(micro_batch.with_micro_batch(recipe, number, reason)))
        except EkidenError as error:
            if number == sizes[0] or not out_of_memory(error):
                raise
            reason = f"the next below {number}, which ran out of memory"
            return False
        return True

    tried = search(sizes, len(sizes) - 1, fits, up=False)
    taken = min(tried)
    return reports[0] | {
        "micro_batch": {
            "taken": taken,
            "reason": reason,
            "out_of_memory": [one for one, fitted in tried.items() if not fitted],
            "use": _use(project, taken),
        }
    }


def _use(project: Project, taken: int) -> str:
    """How to train with the micro-batch that was found."""
    run, change = project.run, f"training.micro_batch={taken}"
    own = read_resolved(run.recipe, Recipe).training.micro_batch if run.recipe.is_file() else None
    if own not in (None, taken):
        return program.command("train", "amend", run.root, change)
    if run.begun:
        return f"nothing to do: the run has {change}"
    return f"submit takes it where the recipe has training.micro_batch=auto; or give {change}"
