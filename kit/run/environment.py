"""The packages of a run: those installed at submission, which every node must have; their import."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from typing import TYPE_CHECKING

from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run


def installed_packages() -> list[str]:
    """The installed packages as `name==version`, sorted; without ekiden, which is the run's code."""
    # Parsing metadata takes a tenth of a second of every task: once per package.
    metadata = [distribution.metadata for distribution in importlib.metadata.distributions()]
    pairs = {(package["Name"].lower(), package["Version"]) for package in metadata}
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


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Turn the garbage collector off for a block that does nothing but import large libraries.

    Imports leave no garbage, and searching the million objects of torch and transformers for it over and
    over takes a tenth of their time. Objects that exist at the end of the block are never searched again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
