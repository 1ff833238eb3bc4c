"""Where the rehearsal of a run is, on the cluster of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.store.files import read_json
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from kit.config.run import Project
    from kit.store.paths import Run


def last(project: Project) -> Run | None:
    """The last rehearsal on this cluster, one with real tokens first; None if there is none."""
    name = f"{project.recipe.name}{Workspace.REHEARSAL}"
    workspace = Workspace(Path(project.recipe.workspace))
    for run in (workspace.run(name), workspace.synthetic(name).run(name)):
        if run.cluster.is_file() and read_json(run.cluster).get("name") == project.cluster.name:
            return run
    return None
