"""The pace of a run before it has done a step: that of its rehearsal, else computed from model and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from kit.cluster.snapshot import snapshot
from kit.config import devices
from kit.plan.flops import flops_per_token
from kit.plan.size import Shape
from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.watch.history import history

if TYPE_CHECKING:
    from kit.config.run import Project

# Assumed. Published runs reached 0.21 (GPT-3) to 0.46 (PaLM): Chowdhery et al. 2022, table 3.
MFU = 0.35


class Pace(NamedTuple):
    """The time of a step, and where it is from."""

    seconds: float
    basis: Literal["rehearsed", "computed"]


def pace(project: Project) -> Pace | None:
    """The planned pace; None without a rehearsal if the cluster names no accelerator."""
    seconds = _rehearsed(project)
    if seconds is not None:
        return Pace(seconds, "rehearsed")
    seconds = _computed(project)
    return None if seconds is None else Pace(seconds, "computed")


def _rehearsed(project: Project) -> float | None:
    """The median step of the run's last rehearsal on this cluster."""
    name = f"{project.recipe.name}{Workspace.REHEARSAL}"
    workspace = Workspace(Path(project.recipe.workspace))
    for run in (workspace.run(name), workspace.synthetic(name).run(name)):
        if run.cluster.is_file() and read_json(run.cluster).get("name") == project.cluster.name:
            return history(snapshot(run), alive=False).seconds
    return None


def _computed(project: Project) -> float | None:
    recipe, training = project.recipe, project.cluster.training
    if training.accelerator is None:
        return None
    model, entries = recipe.model, max(spec.vocab_size for spec in recipe.tokenizer.specs())
    shape = Shape(model.n_layer, model.n_embd, entries, model.n_positions)
    tokens = recipe.training.global_batch * model.n_positions
    peak = devices.ACCELERATORS[training.accelerator].peak_flops * training.ranks
    return tokens * flops_per_token(shape.parameters, model) / (peak * MFU)
