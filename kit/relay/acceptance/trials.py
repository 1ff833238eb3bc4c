"""The short runs of an acceptance: the real recipe on random tokens, on this machine or within a Slurm job.

They are runs of a workspace of their own (kit/relay/synthetic.py), which a later acceptance replaces.
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.cluster import local, supervisor
from kit.config.run import Project
from kit.output import log
from kit.relay import submit_checks, synthetic
from kit.relay.acceptance import calls
from kit.relay.stages import TRAIN
from kit.relay.submit import ensure_idle
from kit.run import directory
from kit.store.files import write_text
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.jobs import Job
    from kit.cluster.supervisor import Drill, Start
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run

_CRASHES = 3  # that a trial may have
_KEEP = 2  # checkpoints of a trial: the fewest


@dataclass(frozen=True)
class Trials:
    """Makes trial runs of a recipe."""

    recipe: Recipe  # over synthetic tokens
    cluster: Cluster  # with the nodes that there are, at most two
    start: Start  # how ranks are started

    @property
    def on_one_node(self) -> Cluster:
        """The cluster with one node for the training."""
        return on_nodes(self.cluster, 1)

    @classmethod
    def of(cls, project: Project, steps: int, start: Start) -> Trials:
        """Write the tokens, for at least `steps` steps.

        Raises RunError if an earlier acceptance is running, ConfigError for mistakes of the recipe.
        """
        recipe, cluster = project.recipe, project.cluster
        named = recipe.model_copy(update={"name": f"{recipe.name}{Workspace.ACCEPTANCE}"})
        workspace = synthetic.workspace_of(named)
        if workspace.root.exists():
            for run in workspace.runs():
                ensure_idle(run)
            synthetic.remove(workspace)
        drawn = synthetic.synthetic_recipe(named)
        synthetic.make(drawn, steps, cluster.training.ranks)
        trials = cls(drawn, _patient(cluster), start)
        project = trials.project("ahead", settings(steps))
        submit_checks.check(project, [TRAIN.job(project.recipe)])
        return trials

    def run(
        self,
        label: str,
        training: dict[str, Any],
        drills: Sequence[Drill] = (),
        profile_at: int | None = None,
        nodes: int = 1,
    ) -> Run:
        """Run to the end, interrupted by the drills; `training` are keys of the recipe's section.

        Raises ClusterError for a mistake that a rank finds, such as memory that runs out, and JobFailed.
        """
        project = self.project(label, training, nodes)
        run = project.run
        run.root.mkdir(parents=True)
        directory.identify(run, label, rehearsal_of=self.recipe.name)
        if drills:
            supervisor.plan_drills(run, drills)
        if profile_at is not None:
            write_text(run.profile, str(profile_at))
        log.info(f"acceptance: {label}")
        job = TRAIN.job(project.recipe)
        lay_out = functools.partial(directory.prepare, project)
        local.prepare(run, project.cluster, [job], lay_out)
        supervisor.supervise(run, lambda line: log.info(f"{label}: {line}"), start=self.start)
        return run

    def discard(self, run: Run) -> None:
        """Remove the checkpoints of a trial, which may take hundreds of gigabytes together."""
        shutil.rmtree(run.checkpoints)

    def call(self, run: Run, job: Job, nodes: int = 1, ranks: int | None = None) -> None:
        """Call the work of a job in the ranks of a trial run: see kit/relay/acceptance/calls.py."""
        log.info(f"acceptance: {job.name}")
        calls.call(run, on_nodes(self.cluster, nodes), job, self.start, ranks)

    def bare(self, label: str, nodes: int = 1) -> Run:
        """A run that trains nothing, laid out for calls."""
        project = self.project(label, {}, nodes)
        directory.prepare(project)
        return project.run

    def project(self, label: str, training: dict[str, Any], nodes: int = 1) -> Project:
        """The project of a trial."""
        common = {"epochs": None, "keep": _KEEP, "keep_every": None, "sample_tokens": None}
        recipe = self.recipe.model_copy(
            update={
                "name": label,
                "training": self.recipe.training.model_copy(update=common | training),
                "tracking": self.recipe.tracking.model_copy(update={"mlflow": None}),
            }
        )
        return Project.of(recipe, on_nodes(self.cluster, nodes))


def settings(steps: int) -> dict[str, Any]:
    """The training of a trial: validated at its end, saved twice."""
    return {
        "steps": steps,
        "warmup_steps": 2,
        "validate_every": steps,
        "samples_every": None,
        "checkpoint_every": steps // 2,
    }


def on_nodes(cluster: Cluster, nodes: int) -> Cluster:
    """The cluster with that number of nodes for the training."""
    training = cluster.training.model_copy(update={"nodes": nodes})
    return cluster.model_copy(update={"training": training})


def here(cluster: Cluster) -> Cluster:
    """The cluster's nodes as one machine without Slurm: the node that this process is on."""
    return on_nodes(cluster, 1).model_copy(update={"kind": "local"})


def _patient(cluster: Cluster) -> Cluster:
    """The cluster with as many retries as a trial needs, and no drill of its own."""
    failures = max(_CRASHES, cluster.training.failures)
    training = cluster.training.model_copy(update={"failures": failures})
    return cluster.model_copy(update={"training": training, "preempt_at_step": None})
