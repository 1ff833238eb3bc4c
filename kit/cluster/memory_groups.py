"""The memory of the cgroups around this process: their limits, and their counts of killed processes.

Versions 1 and 2, from the innermost group outward: see cgroups(7), and the kernel's "Control Group v2" and
"Memory Resource Controller".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
# The counts of a group's own processes. Before Linux 5.2, version 2 had only `memory.events`, which counts
# those of groups inside it too. Version 1 counts since 4.13.
_KILLS = {1: ("memory.oom_control",), 2: ("memory.events.local", "memory.events")}


class Limit(NamedTuple):
    """Memory that may be used, in bytes, and who says so."""

    bytes: float
    source: str


def limits(proc: Path = PROC, cgroups: Path = CGROUPS) -> Iterator[Limit]:
    """The limits that these groups have."""
    for version, folder in _groups(proc, cgroups):
        file = folder / _LIMIT[version]
        text = file.read_text(encoding="utf-8").strip() if file.is_file() else "max"
        if text.isdigit():  # without a limit cgroup v1 has a number larger than any memory
            yield Limit(float(text), f"the limit of {folder}")


def counter_of_kills(proc: Path = PROC, cgroups: Path = CGROUPS) -> Path | None:
    """The file that counts processes of this one's group that were killed; None if there is none.

    That of the outermost group of version 1 does not count: all processes of the machine may be in it.
    """
    for version, folder in _groups(proc, cgroups):
        whole_machine = (folder / "release_agent").exists()
        for name in () if whole_machine else _KILLS[version]:
            if (folder / name).is_file():
                return folder / name
    return None


def _groups(proc: Path, cgroups: Path) -> Iterator[tuple[int, Path]]:
    """Version and folder of this process's group and of those around it; not all folders exist.

    In a container, the outermost folder may be that of the container's own group.
    """
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            version, root = 2, cgroups
        elif "memory" in controllers.split(","):
            version, root = 1, cgroups / "memory"
        else:
            continue
        folder = root / place.lstrip("/")
        yield from ((version, one) for one in (folder, *folder.parents) if one.is_relative_to(root))
