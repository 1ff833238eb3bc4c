"""Your quota on the file system of the workspace, where `lfs quota` or `quota` answers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster.preflight import program
from kit.cluster.preflight.disk import nearest
from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.output.quantities import size
from kit.store.mounts import mount_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.cluster.preflight.finding import Site

_NEARLY = 0.9  # of a limit in use
_ROW = re.compile(
    r"^\s*(?P<place>/\S*|\S+:\S*)\s+"
    r"(?P<kilobytes>\d+)\*?\s+(?P<soft>\d+)\s+(?P<hard>\d+)\s+\S+\s+"
    r"(?P<files>\d+)\*?\s+(?P<soft_files>\d+)\s+(?P<hard_files>\d+)\s+\S+",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Usage:
    """A quota: the part in use, and its limit; 0: there is none."""

    of: str
    kilobytes: int
    limit: int
    files: int
    limit_of_files: int


def quota(site: Site) -> Finding:
    """Warn if one is nearly used up."""
    usages = list(of_folder(nearest(site)))
    if not usages:
        raise NotChecked("neither quota nor lfs quota answers")
    for usage in usages:
        if usage.limit and usage.kilobytes > _NEARLY * usage.limit:
            found = (
                f"{size(usage.kilobytes * 1024)} of {size(usage.limit * 1024)} of {usage.of} used"
            )
            return warning("quota", found, "remove files, or ask for more room")
        if usage.limit_of_files and usage.files > _NEARLY * usage.limit_of_files:
            found = f"{usage.files:,} of {usage.limit_of_files:,} files of {usage.of} used"
            return warning("quota", found, "remove files, or ask for more of them")
    parts = [
        f"{size(usage.kilobytes * 1024)} of "
        f"{size(usage.limit * 1024) if usage.limit else 'no limit'} of {usage.of}"
        for usage in usages
    ]
    return Finding("quota", "ok", ", ".join(parts))


def of_folder(folder: Path) -> Iterator[Usage]:
    """The quotas that hold there, as far as a program tells them."""
    mount = mount_of(folder)
    if mount.kind == "lustre":
        for option, number, of in (("-u", os.getuid(), "you"), ("-g", os.getgid(), "your group")):
            yield from parse(_output("lfs", "quota", "-q", option, str(number), str(folder)), of)
    else:
        yield from parse(_output("quota", "-p", "-w"), "you", mount.source)


def parse(text: str, of: str, place: str | None = None) -> list[Usage]:
    """The rows that `lfs quota -q` and `quota -p -w` print, in kB; with `place`, of that device only."""
    return [
        Usage(
            of,
            int(row["kilobytes"]),
            int(row["soft"]) or int(row["hard"]),
            int(row["files"]),
            int(row["soft_files"]) or int(row["hard_files"]),
        )
        for row in _ROW.finditer(text)
        if place in (None, row["place"])
    ]


def _output(*command: str) -> str:
    """The output of a program; empty if it is missing or does not answer."""
    done = program.run(*command)
    return done.stdout if done is not None else ""  # `quota` fails once a limit is exceeded
