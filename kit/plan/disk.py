"""Disk space of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.config.training import Training


def checkpoints_kept(training: Training, steps: int) -> int:
    """Checkpoints on disk at the end of `steps` steps; one more while it is written."""
    return training.keep + (steps // training.keep_every if training.keep_every else 0)
