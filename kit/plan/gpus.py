"""The GPUs of this machine, by nvidia-smi."""

from __future__ import annotations

import subprocess

_PATIENCE = 30.0  # seconds: it wakes every GPU of the node first


def least(query: str) -> float | None:
    """The least of a property over this machine's GPUs, by its name in nvidia-smi; None if it has none.

    Also None if the driver does not know the property, as `compute_cap` before 510.
    """
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE
        ).stdout
        return min(float(line) for line in output.splitlines())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
