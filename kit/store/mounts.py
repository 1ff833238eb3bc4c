"""The file system that holds a path: its type and options, and whether other hosts share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")  # see proc_pid_mountinfo(5)
# Network and parallel file systems, and those of several hosts on one disk.
_SHARED = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "daos", "fhgfs", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs",
    "wekafs",
})  # fmt: skip
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.portal"})  # fuseblk: a disk


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    point: str
    kind: str  # ext4, lustre, ...
    options: str
    source: str = ""  # the device, or SERVER:PATH
    super_options: str = ""  # of the file system itself, such as those of NFS

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may have it mounted too; a FUSE file system that is unknown counts."""
        return self.kind in _SHARED or (
            self.kind.startswith("fuse.") and self.kind not in _LOCAL_FUSE
        )


def mount_of(path: Path, mounts: str | None = None) -> Mount:
    """The mount that holds a path, which need not exist yet; `mounts` is the text of mountinfo."""
    text = _MOUNTS.read_text(encoding="utf-8") if mounts is None else mounts
    place, found = path.resolve(), Mount("", "unknown", "")
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point, options = before.split()[4:6]
        point = point.encode().decode("unicode_escape")  # a space is \040
        if place.is_relative_to(point) and len(point) >= len(found.point):
            kind, source, *more = after.split()
            found = Mount(point, kind, options, source, *more[:1])
    return found
