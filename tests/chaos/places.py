"""Where a chaos run runs: under the local supervisor, or on a real Slurm."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kit.cluster import state
from kit.store.files import read_json
from tests.relay import ROOT, command

from .processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run
    from tests.slurm.conftest import Slurm

    from .course import Course

NAME = "interrupted"


class Place(Protocol):
    """What an interruption needs to know of the place."""

    def submit(self) -> None:
        """Submit the training job as a user does."""

    def over(self) -> bool:
        """Whether nothing starts by itself any more."""

    def close(self) -> None:
        """Have nothing start any more."""


@dataclass
class Local:
    """The supervisor of the kit."""

    course: Course
    supervisor: Process | None = None

    def submit(self) -> None:
        """See Place."""
        said = command("train", "submit", *self.course.arguments(NAME, *self.course.watched))
        if found := re.search(r"process (\d+) is running", said):
            try:
                self.supervisor = Process(int(found[1]))
            except ProcessLookupError:
                self.supervisor = None

    def over(self) -> bool:
        """See Place."""
        return self.supervisor is None or not self.supervisor.alive()

    def close(self) -> None:
        """See Place."""
        if self.supervisor is not None:
            self.supervisor.send(signal.SIGKILL)


@dataclass
class OnSlurm:
    """The Slurm that sbatch/slurm/up.sh starts."""

    course: Course
    slurm: Slurm
    job: str = ""
    high: list[str] = field(default_factory=list)  # jobs that preempted ours

    def submit(self) -> None:
        """See Place."""
        cluster = str(ROOT / "sbatch" / "slurm" / "cluster.yaml")
        command(
            "train",
            "submit",
            *self.course.arguments(NAME, *self.course.watched),
            "--cluster",
            cluster,
        )
        jobs = read_json(self.course.run(NAME).jobs)
        self.job = jobs["slurm"].get("train", self.job)

    def over(self) -> bool:
        """See Place."""
        return not any(one.alive for one in state.queue([self.job]).get(self.job, ()))

    def close(self) -> None:
        """See Place."""
        if not self.over():
            self.slurm.run("scancel", self.job)

    def preempt(self) -> None:
        """A job of the high partition takes both nodes for a second."""
        whole = ("--nodes=2", "--gpus-per-node=8", "--exclusive")
        self.high.append(self.slurm.submit("sleep 1", "--partition=high", *whole))


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own for the checkpoints of a run, which can be full."""

    folder: Path

    def fill(self, leave: int = 0) -> None:
        """Take all room but `leave` bytes."""
        wanted = shutil.disk_usage(self.folder).free - leave
        while wanted > 0:
            try:
                with (self.folder / f"ballast-{time.monotonic_ns()}").open("wb") as stream:
                    os.posix_fallocate(stream.fileno(), 0, wanted)
            except OSError:  # somebody has written in the meantime
                wanted //= 2
            else:
                wanted = shutil.disk_usage(self.folder).free - leave

    def free(self) -> None:
        """Give the room back."""
        for path in self.folder.glob("ballast-*"):
            path.unlink()


@contextmanager
def small_disk(run: Run, megabytes: int) -> Iterator[SmallDisk | str]:
    """A disk of so many MB under the checkpoints; where it cannot be mounted, why not."""
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(run.checkpoints)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        yield "mount: no such program"
        return
    if done.returncode:
        yield done.stderr.strip()
        return
    try:
        yield SmallDisk(run.checkpoints)
    finally:
        # Lazily: a process that is about to end may still be in it.
        subprocess.run(["umount", "--lazy", run.checkpoints], check=False)


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A directory for a workspace."""
    return tempfile.TemporaryDirectory(prefix="ekiden-chaos-", ignore_cleanup_errors=True)
