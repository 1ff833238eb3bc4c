"""The job of an acceptance on Slurm: it starts the ranks of each part as steps, and writes the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster.steps import Steps
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.run import Project
from kit.config.section import read_resolved
from kit.errors import JobFailed
from kit.relay.acceptance import accept
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run

NAME = "acceptance"


def request(run: Run, steps: int) -> None:
    """Record the number of steps to measure."""
    write_json(_request(run), {"steps": steps})


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  as of every job
    """Run all parts. Raises JobFailed if one is bad."""
    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    steps = read_json(_request(run))["steps"]
    report = accept.run(Project(run, recipe, cluster), run.root, steps, Steps)
    accept.show(report)
    if not report["passed"]:
        raise JobFailed(f"not passed; see {report['page']}")


def _request(run: Run) -> Path:
    return run.root / "request.json"
