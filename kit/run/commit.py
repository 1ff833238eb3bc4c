"""The git commit of the code that a run directory copies, if it comes from a checkout."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from kit.store.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

_FILE, _PATIENCE = "commit", 10.0  # in a snapshot; seconds


def record(snapshot: Path, checkout: Path, packages: tuple[str, ...]) -> None:
    """Write a checkout's commit into a snapshot of its packages, with `-dirty` if they have changed."""
    if not (checkout / ".git").exists():
        return
    head = _git(checkout, "rev-parse", "HEAD")
    if head:
        changed = _git(checkout, "status", "--porcelain", "--", *packages)
        write_text(snapshot / _FILE, f"{head}{'-dirty' if changed else ''}\n")


def read(snapshot: Path) -> str | None:
    """The commit in a snapshot; None if none was recorded."""
    path = snapshot / _FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _git(checkout: Path, *arguments: str) -> str:
    """The output of git; empty if there is no git, or if it refuses."""
    command = ["git", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
