"""The short runs of an acceptance: the real recipe on random tokens, under the supervisor of this machine.

They are runs of a workspace of their own (kit/relay/synthetic.py), which a later acceptance replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.cluster.supervisor import plan_drills
from kit.config.run import Project
from kit.output import log
from kit.relay import synthetic
from kit.relay.stages import TRAIN
from kit.relay.submit import ensure_idle, run_here
from kit.run import directory
from kit.store.files import write_text
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.supervisor import Drill
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run

_CRASHES = 3  # that a trial may have


@dataclass(frozen=True)
class Trials:
    """Makes trial runs of a recipe on this machine."""

    recipe: Recipe  # over synthetic tokens
    cluster: Cluster  # this machine

    @classmethod
    def of(cls, project: Project, steps: int) -> Trials:
        """Write the tokens, for at least `steps` steps. Raises RunError if an earlier one is running."""
        recipe, cluster = project.recipe, project.cluster
        named = recipe.model_copy(update={"name": f"{recipe.name}{Workspace.ACCEPTANCE}"})
        workspace = synthetic.workspace_of(named)
        if workspace.root.exists():
            for run in workspace.runs():
                ensure_idle(run)
            synthetic.remove(workspace)
        drawn = synthetic.synthetic_recipe(named)
        synthetic.make(drawn, steps, cluster.training.ranks_per_node)
        return cls(drawn, here(cluster))

    def run(
        self,
        label: str,
        training: dict[str, Any],
        drills: Sequence[Drill] = (),
        profile_at: int | None = None,
    ) -> Run:
        """Run to the end, interrupted by the drills; `training` are keys of the recipe's section.

        Raises ClusterError for a mistake that a rank finds, such as memory that runs out, and JobFailed.
        """
        project = Project.of(self._recipe(label, training), self.cluster)
        run = project.run
        run.root.mkdir(parents=True)
        directory.identify(run, label, rehearsal_of=self.recipe.name)
        if drills:
            plan_drills(run, drills)
        if profile_at is not None:
            write_text(run.profile, str(profile_at))
        log.info(f"acceptance: {label}")
        run_here(project, [TRAIN], lambda line: log.info(f"{label}: {line}"))
        return run

    def _recipe(self, label: str, training: dict[str, Any]) -> Recipe:
        common = {"epochs": None, "keep_every": None, "sample_tokens": None}
        return self.recipe.model_copy(
            update={
                "name": label,
                "training": self.recipe.training.model_copy(update=common | training),
                "tracking": self.recipe.tracking.model_copy(update={"mlflow": None}),
            }
        )


def here(cluster: Cluster) -> Cluster:
    """The cluster's nodes as one machine without Slurm: the node that this process is on."""
    training = cluster.training.model_copy(
        update={"nodes": 1, "failures": max(_CRASHES, cluster.training.failures)}
    )
    changes = {"kind": "local", "training": training, "preempt_at_step": None}
    return cluster.model_copy(update=changes)
