"""The packages of a run: those installed at submission, which every node must have."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from kit.errors import ClusterError

if TYPE_CHECKING:
    from kit.store.paths import Run


def installed_packages() -> list[str]:
    """The installed packages as `name==version`, sorted; without ekiden, which is the run's code."""
    pairs = {(d.metadata["Name"].lower(), d.version) for d in importlib.metadata.distributions()}
    return sorted(f"{name}=={version}" for name, version in pairs if name != "ekiden")


def check_environment(run: Run) -> None:
    """Raises ClusterError if this node's packages differ from those at submission."""
    submitted = set(run.environment.read_text(encoding="utf-8").split())
    here = set(installed_packages())
    if submitted != here:
        examples = sorted(submitted ^ here)[:3]
        raise ClusterError(
            f"{run.environment}: this node's packages differ ({', '.join(examples)}); "
            "install the same packages on every node"
        )
