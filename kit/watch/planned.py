"""The pace of a run before it has done a step: that of its rehearsal, else computed from model and GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from kit.cluster.snapshot import snapshot
from kit.plan import rate
from kit.run import rehearsals
from kit.watch.history import history

if TYPE_CHECKING:
    from kit.config.run import Project


class Pace(NamedTuple):
    """The time of a step, and where it is from."""

    seconds: float
    basis: Literal["rehearsed", "computed"]


def pace(project: Project) -> Pace | None:
    """The planned pace; None without a rehearsal if the cluster names no accelerator."""
    seconds = _rehearsed(project)
    if seconds is not None:
        return Pace(seconds, "rehearsed")
    seconds = rate.seconds_a_step(project.recipe, project.cluster)
    return None if seconds is None else Pace(seconds, "computed")


def _rehearsed(project: Project) -> float | None:
    """The median step of the run's last rehearsal on this cluster."""
    run = rehearsals.last(project)
    return None if run is None else history(snapshot(run), alive=False).seconds
