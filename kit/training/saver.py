"""Saving of checkpoints: the loop waits for a copy to host memory, a thread writes it.

In a folder with a hidden name each rank writes, syncs and hashes its own files, then a done-file; at its
pace (kit/training/pace.py) until somebody waits for it.
Once no rank is writing, rank 0 adds the manifest and renames the folder, at a step boundary. A save
that fails on any rank fails on all; earlier checkpoints stay intact.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kit.output import log
from kit.store.files import read_json, sync_directory, write_json
from kit.training import checkpoint
from kit.training.pace import Pace
from kit.training.state_files import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kit.config.recipe import Training
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Output
    from kit.training.checkpoint import LoopRecord

_SPACE_FACTOR = 1.05  # free space that a save requires, relative to the size of the state


class State(Protocol):
    """The state to save: the engine."""

    def capture(self, step: int) -> dict[str, Any]:
        """Copy this rank's part, by file name, into memory that the loop does not touch."""

    def state_bytes(self) -> int:
        """Approximate size of all parts."""


class Ranks(Protocol):
    """The ranks that save together."""

    @property
    def rank(self) -> int:
        """The number of this rank."""

    @property
    def world_size(self) -> int:
        """The number of ranks."""

    def max(self, values: Sequence[int]) -> list[int]:
        """All-reduce max, element by element."""


@dataclass(frozen=True)
class Saved:
    """A finished save; `error` is 0, or an errno of the operating system."""

    step: int
    error: int
    seconds: float  # from its start
    bytes: int
    rested: float = 0.0  # seconds of those in which no rank wrote, to leave the cores to training

    @property
    def reason(self) -> str:
        """The error in words."""
        return os.strerror(self.error)


class Saver:
    """Runs one save at a time. All ranks call `begin` and `finish` at the same points."""

    def __init__(
        self,
        run: Run,
        attempt: Attempt,
        training: Training,
        ranks: Ranks,
        ledger: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        urgent: Callable[[], bool] = lambda: False,
    ) -> None:
        """`ledger` syncs the rows before the checkpoint, which depends on them; `clock` gives seconds.

        `urgent`: whether this rank has had a signal, so that its save no longer rests.
        """
        self._run, self._attempt, self._training, self._ranks = run, attempt, training, ranks
        self._sync_ledger, self._clock, self._urgent = ledger, clock, urgent
        self._pace = Pace()
        self._thread: threading.Thread | None = None
        self._cleaner: threading.Thread | None = None
        self._error = 0
        self._record: LoopRecord | None = None
        self._began = 0.0
        self.step: int | None = None  # of the save in flight

    @property
    def writing(self) -> bool:
        """Whether this rank is still writing."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def error(self) -> int:
        """The errno of this rank's part of the save in flight; 0 if it has not failed."""
        return 0 if self.writing else self._error

    @property
    def rested(self) -> bool:
        """Whether this rank's part of the save in flight has rested, and so ends later than it could."""
        return self.step is not None and self._pace.rested > 0

    def hurry(self) -> None:
        """Write at full speed from now on."""
        self._pace.hurry()

    def begin(self, engine: State, step: int, record: LoopRecord) -> Saved | None:
        """Copy the state after `step` steps and start writing it; returns a save that failed at once.

        Checks for space on the disk first.
        """
        assert self.step is None
        self._began = self._clock()
        self._record = {**record, "step": step}
        (error,) = self._ranks.max([self._prepare(step, engine.state_bytes())])
        if error:
            return Saved(step, error, self._clock() - self._began, 0)
        self._error, self.step = 0, step
        self._pace = Pace(self._urgent, self._clock)
        part = engine.capture(step)
        self._thread = threading.Thread(target=self._write, args=(part,), daemon=True, name="saver")
        self._thread.start()
        return None

    def finish(self, error: int) -> Saved:
        """Finish the save in flight once no rank is writing: commit it if no rank failed."""
        assert self.step is not None
        step, self.step, self._thread = self.step, None, None
        size = 0
        if self._ranks.rank == 0 and not error:
            try:
                size = self._commit(step)
            except OSError as problem:
                error = problem.errno or errno.EIO
        # The least of all ranks: what is left of the time is then never less than a save needs.
        error, size, rested = self._ranks.max([error, size, -int(self._pace.rested * 1000)])
        if self._ranks.rank == 0:
            self._clean(step, failed=bool(error))
        return Saved(step, error, self._clock() - self._began, size, -rested / 1000)

    def close(self) -> None:
        """Wait until old checkpoints are removed."""
        if self._cleaner is not None:
            self._cleaner.join()

    def _staging(self, step: int) -> Path:
        folder = self._run.checkpoint(step, self._attempt.number)
        return folder.with_name(f".{folder.name}")

    def _prepare(self, step: int, size: int) -> int:
        """Rank 0: create the staging folder and check for space; returns an errno, or 0."""
        if self._ranks.rank != 0:
            return 0
        self.close()
        staging = self._staging(step)
        try:
            shutil.rmtree(staging, ignore_errors=True)
            (staging / checkpoint.STATE).mkdir(parents=True)
            if shutil.disk_usage(staging).free < size * _SPACE_FACTOR:
                shutil.rmtree(staging)
                return errno.ENOSPC
        except OSError as problem:
            return problem.errno or errno.EIO
        return 0

    def _write(self, part: dict[str, Any]) -> None:
        """In the background: write this rank's files, then its done-file."""
        assert self.step is not None
        staging = self._staging(self.step)
        self._pace.begin()
        try:
            self._sync_ledger()
            state = staging / checkpoint.STATE
            files = {name: write(state / name, value, self._pace) for name, value in part.items()}
            sync_directory(state)
            write_json(_done_file(staging, self._ranks.rank), files)
        except OSError as problem:
            self._error = problem.errno or errno.EIO

    def _commit(self, step: int) -> int:
        """Rank 0: write the manifest and rename the folder; returns the size in bytes."""
        staging = self._staging(step)
        files: dict[str, Output] = {}
        for rank in range(self._ranks.world_size):
            files |= read_json(_done_file(staging, rank))
            _done_file(staging, rank).unlink()
        assert self._record is not None
        record: checkpoint.Record = {
            **self._record,
            "ranks": self._ranks.world_size,
            "time": time.time(),
            "files": files,
        }
        write_json(staging / checkpoint.RECORD, checkpoint.sealed(record))
        staging.rename(self._run.checkpoint(step, self._attempt.number))
        sync_directory(self._run.checkpoints)
        return sum(file["size"] for file in files.values())

    def _clean(self, step: int, *, failed: bool) -> None:
        """Rank 0: remove obsolete folders, in the background: gigabytes take a while."""

        def work() -> None:
            try:
                if failed:
                    shutil.rmtree(self._staging(step), ignore_errors=True)
                else:
                    checkpoint.prune(self._run, self._training, self._attempt)
            except OSError as problem:
                log.warning(
                    f"{self._run.checkpoints}: old checkpoints not removed ({problem.strerror})"
                )

        self._cleaner = threading.Thread(target=work, daemon=True, name="cleaner")
        self._cleaner.start()


def _done_file(staging: Path, rank: int) -> Path:
    return staging / f"done-{rank}.json"
