"""Errors of GPUs (XID) in the kernel's log, where this user may read it: see NVIDIA's "XID Errors"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.cluster.preflight import program
from kit.cluster.preflight.finding import Finding, NotChecked

if TYPE_CHECKING:
    from kit.cluster.preflight.finding import Site

_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)")
# Errors of the hardware or of its firmware. Others, such as 13, 31 and 43, are of the program that ran.
_HARDWARE = {
    "48": "double-bit memory error",
    "64": "row not remapped",
    "74": "NVLink error",
    "79": "fallen off the bus",
    "95": "uncontained memory error",
    "119": "its firmware does not answer",
    "120": "its firmware failed",
    "140": "unrecovered memory error",
}
_READERS = (
    ("dmesg",),
    ("journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=cat"),
)


def gpu_xid(site: Site) -> Finding:  # noqa: ARG001
    """Errors of the hardware since the machine was started."""
    answers = (_output(*reader) for reader in _READERS)
    text = next((answer for answer in answers if answer is not None), None)
    if text is None:
        raise NotChecked("this user may not read the kernel's log")
    seen = [f"{pci}: XID {number}, {what}" for pci, number, what in errors(text)]
    if not seen:
        return Finding("gpu_xid", "ok", "no error of the hardware since the last boot")
    more = f" and {len(seen) - 1:,} more" if len(seen) > 1 else ""
    remedy = "have the node drained and the GPU tested (dcgmi diag); after a repair, boot it again"
    return Finding("gpu_xid", "bad", f"GPU {seen[-1]}{more}", remedy, of_node=True)


def errors(log: str) -> list[tuple[str, str, str]]:
    """Errors of the hardware in a log: PCI address, number, meaning."""
    found = _XID.findall(log)
    return [(pci, number, _HARDWARE[number]) for pci, number in found if number in _HARDWARE]


def _output(*command: str) -> str | None:
    """The output of a program; None if it is missing or refused."""
    done = program.run(*command)
    return done.stdout if done is not None and done.returncode == 0 else None
