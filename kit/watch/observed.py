"""A run at one moment, as detectors see it: kit/watch/look.py fills it, kit/watch/detectors.py reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.decisions import RequeueRecord
    from kit.tracking.rows import StepRow

RECENT = 100  # steps that a view holds


@dataclass(frozen=True)
class AttemptSeen:
    """An attempt, as far as detectors need it."""

    number: int
    node: str  # of rank 0
    start: float  # Unix time
    from_step: int
    step_seconds: float | None  # median; None: it did no step
    first_step: float | None  # Unix time of the end of its first step


@dataclass(frozen=True)
class WatchedJob:
    """The training job in the queue, or on this machine."""

    state: Literal["queued", "running", "gone", "unknown"]
    since: float | None = None  # Unix time
    reason: str | None = None  # as `status` has it: `Slurm: Resources`
    id: str | None = None  # Slurm's


@dataclass(frozen=True)
class Disk:
    """The file system of the workspace, and the run's remaining needs."""

    free: int  # bytes
    needed: int  # bytes, until the last step
    files: int | None = None  # free inodes; None: the file system does not count them
    files_needed: int = 0


@dataclass(frozen=True)
class View:
    """A run at one moment, as detectors see it."""

    run: str  # its directory, quoted for the shell
    now: float
    job: WatchedJob = field(default_factory=lambda: WatchedJob("unknown"))
    ended: str | None = None  # why the training ended before its last step
    resume: str = ""  # the command that continues the run
    steps: Sequence[StepRow] = ()  # the last RECENT of the curve, and those that are new
    new: int = 10  # of these the last ones that no earlier look has seen
    usual_rate: float | None = None  # the run's median of tokens per second
    usual_seconds: float | None = None  # the run's median of a step
    best_loss: float | None = None  # the lowest median over RECENT steps, of the whole run
    attempts: Sequence[AttemptSeen] = ()
    decisions: Sequence[RequeueRecord] = ()  # on the training job
    failed: Sequence[tuple[str, str]] = ()  # other stages that failed, and why
    first_loss: float | None = None  # the median of the first steps; None: not known
    saved: Sequence[tuple[float, int]] = ()  # Unix time and step of the last checkpoints
    save_failed: tuple[float, str] | None = None  # the last failed save: Unix time and reason
    interval: float | None = None  # seconds between two checkpoints
    longest: float = 0.0  # seconds of the longest validation or save
    start_seconds: float = 1800.0  # from which a start counts as a hang
    failures_allowed: int | None = None
    disk: Disk | None = None
    skew: float | None = (
        None  # seconds by which the clock of the node is ahead of this file system's
    )
    mlflow_behind: float | None = (
        None  # seconds between the last row and the last one that MLflow has
    )
