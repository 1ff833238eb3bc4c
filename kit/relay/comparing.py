"""Plans side by side: of a recipe on several kinds of nodes, or of several recipes.

comparing.facts(project, ["8xa100", "4xv100-32gb"])      # the JSON of `jobs.plan --gpus ... --json`
comparing.beside([project, other])                       # the JSON of `jobs.plan --beside ... --json`
comparing.beside([project, other], kinds=["8xa100"])     # and of `--beside ... --gpus ... --json`
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kit.config.devices import ACCELERATORS
from kit.errors import ConfigError
from kit.plan import comparison, micro_batch, rate
from kit.plan.comparison import On
from kit.plan.known import Budget
from kit.relay import planning, trainable
from kit.training import precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.run import Project


def beside(
    projects: Sequence[Project],
    mfu: float | None = None,
    tokens: float | None = None,
    kinds: Sequence[str] = (),
) -> dict[str, Any]:
    """The plans of several recipes, each with its figures and their sources; with `kinds`, on each node.

    All train on `tokens`; if None, those whose length is not known yet train on 150 billion, assumed.
    Raises ConfigError as `facts` does.
    """
    budget = Budget() if tokens is None else Budget(tokens, given=True)
    nodes = [*dict.fromkeys(kinds)]
    planned = [_project_on(kind, one) for kind in nodes for one in projects] or projects
    plans = [planning.facts(project, mfu, budget=budget) for project in planned]
    return {"nodes": nodes, "recipes": plans}


def facts(
    project: Project, kinds: Sequence[str], mfu: float | None = None, tokens: float | None = None
) -> dict[str, Any]:
    """The plan on one node of each kind, as plain values; `tokens` are those to train on.

    Of the project's cluster nothing is used. Raises ConfigError for a kind that is unknown, or whose GPUs
    cannot share the recipe's batch.
    """
    recipe = project.recipe
    pairs = [_on(kind, project) for kind in kinds]
    steps = (
        rate.steps(recipe, planning.training_tokens(recipe))
        if tokens is None
        else rate.steps_for(recipe, tokens)
    )
    return comparison.facts(recipe.name, pairs, steps, mfu)


def _project_on(kind: str, project: Project) -> Project:
    on = _on(kind, project)
    return replace(project, recipe=on.recipe, cluster=on.cluster)


def _on(kind: str, project: Project) -> On:
    number, gpu = _parsed(kind)
    cluster = _node(project.cluster, kind, number, gpu)
    try:
        recipe = _on_these(project.recipe, cluster)
        trainable.check(recipe, cluster, begun=project.run.begun)
    except ConfigError as error:
        raise ConfigError(f"--gpus {kind}: {project.recipe.name}: {error}") from None
    return On(kind, recipe, cluster)


def _parsed(kind: str) -> tuple[int, str]:
    """The number and the name in 8xa100."""
    match = re.fullmatch(r"([1-9]\d{0,3})x(.+)", kind)
    if match is None or match[2] not in ACCELERATORS:
        raise ConfigError(
            f"--gpus {kind}: write the GPUs of a node as NUMBERxNAME, such as 8xa100,4xv100-32gb; known "
            f"GPUs: {', '.join(ACCELERATORS)}"
        )
    return int(match[1]), match[2]


def _node(cluster: Cluster, kind: str, number: int, gpu: str) -> Cluster:
    """One node with that many GPUs, a rank on each; it is not this machine, and its memory is unknown."""
    shape = {"nodes": 1, "ranks_per_node": number, "gpus_per_node": number, "accelerator": gpu}
    training = cluster.training.model_copy(update={**shape, "memory_gb": None})
    update = {"name": kind, "kind": "slurm", "device": "cuda", "training": training}
    return cluster.model_copy(update=update)


def _on_these(recipe: Recipe, cluster: Cluster) -> Recipe:
    """The recipe with the precision and micro-batch that `auto` means there; what was written stays."""
    training = recipe.training
    if training.precision_reason is not None:
        chosen, reason = precision.resolve(cluster)
        update = {"precision": chosen, "precision_reason": reason}
        recipe = recipe.model_copy(update={"training": training.model_copy(update=update)})
    if training.micro_batch_reason is not None:
        recipe = micro_batch.with_micro_batch(recipe, *micro_batch.resolve(recipe, cluster))
    return recipe
