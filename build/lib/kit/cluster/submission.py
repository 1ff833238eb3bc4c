"""The run directory: all that a submitted job reads.

It is made at the first submission: the resolved recipe and cluster, the code, the list of packages,
an identity of its own. A later submission must bring the same recipe. Once training has begun, code
and packages stay as they are.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
import uuid
from pathlib import Path

from kit import config
from kit.errors import ClusterError, RunError
from kit.files import write_json, write_text
from kit.workspace import Run, Workspace

_PACKAGES = ("jobs", "kit")


def prepare(recipe: config.Recipe, cluster: config.Cluster) -> Run:
    """Make the run directory of a recipe, or check that it is this recipe's.

    Raises RunError where the directory belongs to another recipe.
    """
    run = Workspace(Path(recipe.workspace)).run(recipe.name)
    if run.recipe.is_file():
        differing = config.differing_keys(config.read_resolved(run.recipe, config.Recipe), recipe)
        if differing:
            raise RunError(
                f"{run.root}: made by another recipe ({'; '.join(differing[:3])}); give this one "
                "another name=, or remove the directory"
            )
    run.root.mkdir(parents=True, exist_ok=True)
    if not run.identity.is_file():
        write_json(run.identity, {"id": uuid.uuid4().hex, "name": recipe.name, "time": time.time()})
    write_json(run.recipe, recipe.model_dump(mode="json"))
    write_json(run.cluster, cluster.model_dump(mode="json"))
    if not run.attempts.is_dir():
        write_text(run.environment, "".join(f"{line}\n" for line in installed()))
        _snapshot(run.code)
    return run


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


def _snapshot(code: Path) -> None:
    """Copy the packages that run; the copy is whole or absent."""
    checkout = Path(__file__).resolve().parents[2]
    if checkout == code.resolve():
        return  # a job of the run itself
    fresh = code.with_name(f".code-{uuid.uuid4().hex[:8]}")
    for package in _PACKAGES:
        shutil.copytree(
            checkout / package, fresh / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    if code.exists():
        shutil.rmtree(code)
    fresh.rename(code)
