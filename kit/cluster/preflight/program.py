"""Programs of the system that checks ask: they may be missing, refuse, or not answer."""

from __future__ import annotations

import shutil
import subprocess

_PATIENCE = 10  # seconds


def run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run a program, whose output need not be UTF-8; None if it is missing or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            errors="replace",
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
