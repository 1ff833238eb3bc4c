"""Whether what is synced in the workspace survives a crash, as far as the options of its mount tell.

A checkpoint counts once its files are synced (fsync(2)) and its folder is renamed: the options below take
that promise back. docs/workspace.md says what it is worth on Lustre and NFS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster.preflight.disk import nearest
from kit.cluster.preflight.finding import Finding, warning
from kit.store.mounts import mount_of

if TYPE_CHECKING:
    from kit.cluster.preflight.finding import Site
    from kit.store.mounts import Mount

_MEMORY = frozenset({"tmpfs", "ramfs"})
_NFS = frozenset({"nfs", "nfs3", "nfs4"})
# See mount(8), nfs(5) and the kernel's pages on overlayfs and f2fs.
_WITHOUT_BARRIERS = frozenset({"nobarrier", "barrier=0", "fsync_mode=nobarrier"})
_SOFT = frozenset({"soft", "softerr"})


def durable(site: Site) -> Finding:
    """Options of the mount that make fsync or rename promise less."""
    mount = mount_of(nearest(site))
    where = f"{mount.point}: {mount.kind}"
    if (problem := lost(mount)) is not None:
        found, remedy = problem
        return warning("durable", f"{where} {found}", remedy)
    return Finding("durable", "ok", where)


def lost(mount: Mount) -> tuple[str, str] | None:
    """Data that a crash loses on this mount although it was synced, with a remedy; None: nothing."""
    options = {*mount.options.split(","), *mount.super_options.split(",")}
    if mount.kind in _MEMORY:
        return "is in memory, and lost with a reboot", "put the workspace on a disk"
    if mount.kind == "overlay" and "volatile" in options:
        return "is mounted volatile, and syncs nothing", "put the workspace outside the container"
    if found := options & _WITHOUT_BARRIERS:
        text = f"is mounted {found.pop()}: a power cut can lose what was synced"
        return text, "mount it with barriers, unless the disk's cache has a battery"
    if mount.kind in _NFS and (found := options & _SOFT):
        text = f"is mounted {found.pop()}: while the server is away, reads and writes fail"
        return text, "mount it hard: training then waits for the server, else it is requeued"
    return None
