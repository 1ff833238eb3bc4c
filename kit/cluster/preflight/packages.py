"""The installed packages against those of the run: a task on a node that differs is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, NotChecked
from kit.errors import ClusterError
from kit.run.environment import check_environment

if TYPE_CHECKING:
    from kit.cluster.preflight.finding import Site


def packages(site: Site) -> Finding:
    """Compare them."""
    if not site.run.environment.is_file():
        raise NotChecked("nothing was submitted yet")
    try:
        check_environment(site.run)
    except ClusterError as error:
        _, _, problem = str(error).partition(": ")
        found, _, remedy = problem.partition("; ")
        return Finding("packages", "bad", found, remedy, of_node=True)
    return Finding("packages", "ok", "the same as at submission")
