"""The packages of a run: those installed at its submission, which every node has to have; their import."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from typing import TYPE_CHECKING

from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run


def installed() -> list[str]:
    """The installed packages as `name==version`, sorted; ekiden itself is the run's code."""
    # Once for each: to parse their descriptions is what takes the time, a tenth of a second of every task.
    found = (distribution.metadata for distribution in importlib.metadata.distributions())
    pairs = {(metadata["Name"].lower(), metadata["Version"]) for metadata in found}
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
