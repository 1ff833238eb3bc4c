"""Secrets in a cluster file: refused, as run directories and job scripts hold what it says.

    refuse(cluster, origin, "mine.yaml")       # HF_TOKEN: hf_abc  ->  ConfigError

A secret is passed by name: `environment: {HF_TOKEN: null}` takes it from the environment of the submitter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.errors import ConfigError
from kit.output.secret_names import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.config.cluster import Cluster

_ASSIGNMENT = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)=[\"']?(?=[^\s\"'$])")


def refuse(cluster: Cluster, origin: Mapping[str, str], place: str | None) -> None:
    """Raise ConfigError with a line for each secret; no line has its value.

    `origin` has the overrides by key, `place` is the file. Without one, for a run directory, only overrides
    are checked: what it holds is there already.
    """
    lines = []
    for key, name in _found(cluster):
        given = next((one for one in origin if key == one or key.startswith(f"{one}.")), None)
        if given is None and place is None:
            continue
        where = f"override 'cluster.{given}'" if given else f"{place}: {key}"
        lines.append(
            f"{where}: {name} looks like a secret, and run directories and job scripts would hold it; "
            f"write environment: {{{name}: null}}, which takes it from your environment when you submit"
        )
    if lines:
        raise ConfigError(*lines)


def _found(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """The key of each secret, and the name of the variable."""
    for name, value in cluster.environment.items():
        if value is not None and is_secret(name):
            yield f"environment.{name}", name
    texts = {"setup": "\n".join(cluster.setup)}
    for kind in ("sbatch", "srun"):
        texts[kind] = "\n".join(getattr(cluster, kind).values())
        for section in ("network", "arrays", "single", "training"):
            own = getattr(cluster, section)
            texts[f"{section}.{kind}"] = "\n".join(getattr(own, kind).values()) if own else ""
    for key, text in texts.items():
        yield from ((key, name) for name in _ASSIGNMENT.findall(text) if is_secret(name))
