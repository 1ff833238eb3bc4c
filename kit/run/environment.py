"""The packages of a run: those installed at submission, which every node must have; their import."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import re
import uuid
from typing import TYPE_CHECKING

from kit.errors import ClusterError
from kit.store.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run

_FIELD = re.compile(r"^(Name|Version): *(.*?) *$", re.MULTILINE)


def installed_packages() -> list[str]:
    """The installed packages as `name==version`, sorted; without ekiden, which is the run's code."""
    pairs = {_name_and_version(package) for package in importlib.metadata.distributions()}
    return sorted(f"{name}=={version}" for name, version in pairs if name != "ekiden")


def record_packages(run: Run, *, in_container: bool) -> None:
    """Record the packages of this environment; those of a container are recorded by its first task."""
    if in_container:
        run.environment.unlink(missing_ok=True)
    else:
        write_text(run.environment, lines(installed_packages()))


def check_environment(run: Run) -> None:
    """Raises ClusterError if this node's packages differ from those on record.

    Those are the packages at submission, or the ones in the container of the first task.
    """
    here = installed_packages()
    if not run.environment.is_file():
        _record_first(run, here)
    recorded = set(run.environment.read_text(encoding="utf-8").split())
    if differing := recorded ^ set(here):
        raise ClusterError(
            f"{run.environment}: this node's packages differ ({', '.join(sorted(differing)[:3])}); "
            "install the same packages on every node"
        )


def lines(packages: list[str]) -> str:
    """The text of such a record."""
    return "".join(f"{package}\n" for package in packages)


def _name_and_version(package: importlib.metadata.Distribution) -> tuple[str, str]:
    """Of the core metadata: a field a line, above the README, whose parsing would take most of the time."""
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
    fields = dict(_FIELD.findall(text.partition("\n\n")[0]))
    return fields["Name"].lower(), fields["Version"]


def _record_first(run: Run, packages: list[str]) -> None:
    """Record packages unless another task has done so."""
    own = run.environment.with_name(f".environment-{uuid.uuid4().hex[:8]}")
    write_text(own, lines(packages))
    with contextlib.suppress(FileExistsError):
        run.environment.hardlink_to(own)
    own.unlink()


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
