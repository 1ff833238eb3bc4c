"""The packages of a run: those installed at its submission, which every node has to have."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from kit.errors import ClusterError

if TYPE_CHECKING:
    from kit.store.paths import Run


def installed() -> list[str]:
    """The installed packages as `name==version`, sorted; ekiden itself is the run's code."""
    pairs = {(d.metadata["Name"].lower(), d.version) for d in importlib.metadata.distributions()}
    return sorted(f"{name}=={version}" for name, version in pairs if name != "ekiden")


def check_environment(run: Run) -> None:
    """Raises ClusterError on a node whose packages are not those of the submission."""
    wanted = set(run.environment.read_text(encoding="utf-8").split())
    here = set(installed())
    if wanted != here:
        some = sorted(wanted ^ here)[:3]
        raise ClusterError(
            f"{run.environment}: this node's packages differ ({', '.join(some)}); "
            "install the same on every node"
        )
