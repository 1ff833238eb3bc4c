"""Checkpoints on disk: committed, or not there.

Resuming takes the newest that verifies, and puts a broken one aside. Names carry step and attempt,
so that an older attempt that still lives on a lost node can neither overwrite nor be chosen.

    checkpoints/step-00000100.attempt-0002/{state/, checkpoint.json}
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.errors import CheckpointError
from kit.output import log
from kit.store import records
from kit.store.files import file_hash, read_json, sync_directory
from kit.store.paths import checkpoint_numbers
from kit.tracking import ledger
from kit.training.progress import ProgressRecord

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Training
    from kit.store.paths import Attempt, Run
    from kit.store.records import Output

RECORD = "checkpoint.json"
STATE = "state"


class Record(ProgressRecord):
    """The manifest of a checkpoint."""

    data: str  # the fingerprint of the tokens
    ranks: int
    time: float  # Unix
    files: dict[str, Output]


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    folder: Path
    step: int
    attempt: int

    @property
    def origin(self) -> str:
        """The step and who saved it: a fork's first one comes from another run."""
        by = f"attempt {self.attempt}" if self.attempt else "the run that this one is a fork of"
        return f"step {self.step:,} of {by}"

    @property
    def record(self) -> Record:
        """Its manifest: files with sizes and hashes, ranks, data, and the progress of the loop."""
        found: Record = read_json(self.folder / RECORD)
        return found

    @property
    def state(self) -> Path:
        """The folder of DeepSpeed's files."""
        return self.folder / STATE

    def problem(self, *, read: bool = True) -> str | None:
        """What is wrong with its files, by size, and with `read` by hash; None if nothing.

        Raises OSError where they cannot be read at all: that is the file system's trouble, and says
        nothing of the checkpoint.
        """
        try:
            files = self.record["files"]
        except (FileNotFoundError, ValueError, KeyError) as error:
            return f"{RECORD} cannot be read ({error})"
        for name, record in files.items():
            path = self.state / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != record["size"]:
                return f"{name} has {path.stat().st_size} bytes of {record['size']}"
            if read and file_hash(path) != record["xxh3"]:
                return f"{name} has other bytes than were written"
        return None


def committed(run: Run) -> list[Checkpoint]:
    """All committed checkpoints that may be resumed from, the one to choose first.

    Those of a newer attempt come first; of an older attempt, those up to the step where the next
    attempt set out.
    """
    found = [
        Checkpoint(path, step, attempt)
        for path, (step, attempt) in run.committed_checkpoints().items()
    ]
    starts = {
        attempt.number: records.start(attempt)["from_step"] for attempt in ledger.attempts(run)
    }
    chosen = [
        checkpoint
        for checkpoint in found
        if all(checkpoint.step <= step for n, step in starts.items() if n > checkpoint.attempt)
    ]
    return sorted(chosen, key=lambda c: (c.attempt, c.step), reverse=True)


def named(run: Run, name: str) -> Checkpoint:
    """The committed checkpoint of a folder's name."""
    folder = run.checkpoints / name
    numbers = checkpoint_numbers(folder)
    assert numbers is not None, folder
    return Checkpoint(folder, *numbers)


def newest(run: Run) -> Checkpoint | None:
    """The checkpoint to resume from: the first of `committed` that verifies.

    A broken one is put aside, under a name that is never chosen, and said so. None where the run
    has no checkpoint yet; raises CheckpointError where it had some, and none verifies.
    """
    for checkpoint in committed(run):
        log.info(f"verifying the checkpoint of {checkpoint.origin}")
        problem = checkpoint.problem()
        if problem is None:
            return checkpoint
        aside = checkpoint.folder.with_name(f"broken-{checkpoint.folder.name}-{time.time_ns()}")
        checkpoint.folder.rename(aside)
        log.warning(f"checkpoint {checkpoint.folder}: {problem}; put aside as {aside.name}")
    broken = sorted(run.checkpoints.glob("broken-*"))
    if broken:
        raise CheckpointError(
            f"{run.checkpoints}: every checkpoint is broken; bring one back, or remove the broken-* "
            "folders to begin from step 0"
        )
    return None


def final(run: Run, remedy: str) -> Checkpoint:
    """The newest checkpoint whose files are all there, for release: a look, which changes nothing.

    Raises CheckpointError where there is none.
    """
    for checkpoint in committed(run):
        if checkpoint.problem(read=False) is None:
            return checkpoint
    raise CheckpointError(f"{run.checkpoints}: no checkpoint; run {remedy} first")


def of_step(run: Run, step: int, option: str) -> Checkpoint:
    """The committed checkpoint of a step that a command's `option` names.

    Raises CheckpointError, which names the steps there are.
    """
    made = committed(run)
    for checkpoint in made:
        if checkpoint.step == step:
            return checkpoint
    there = ", ".join(str(one) for one in sorted({one.step for one in made}))
    raise CheckpointError(
        f"{option} {step}: {run.root} has no checkpoint of that step; it has: {there or 'none'}"
    )


def link(checkpoint: Checkpoint, copy: Path) -> None:
    """The same files once more in the folder `copy`, by hard links, or as copies where there are none.

    They outlive the checkpoint, which its run may remove at any time. Raises CheckpointError where it
    does so before all are linked, or where a file is missing or of another size.
    """
    try:
        _link_files(checkpoint.folder, copy)
        problem = Checkpoint(copy, checkpoint.step, checkpoint.attempt).problem(read=False)
    except FileNotFoundError as error:
        problem = f"{error.filename} is missing"
    if problem is not None:
        raise CheckpointError(
            f"{checkpoint.folder}: {problem}: removed by its run just now, or damaged; take another one"
        )


def on_schedule(run: Run, training: Training, step: int) -> Checkpoint | None:
    """The newest whole checkpoint up to `step` that stands where the recipe says: one to go back to.

    Those that an interruption or a user brought about are passed over, so that where a run goes
    back to does not depend on how it was interrupted.
    """
    for checkpoint in committed(run):
        if (
            checkpoint.step <= step
            and _is_on_schedule(training, checkpoint.step)
            and checkpoint.problem() is None
        ):
            return checkpoint
    return None


def abandon(run: Run, attempt: Attempt, step: int) -> None:
    """Remove what was committed beyond `step`, on the way that is gone back."""
    for checkpoint in committed(run):
        if checkpoint.step > step and checkpoint.attempt <= attempt.number:
            shutil.rmtree(checkpoint.folder)


def prune(run: Run, training: Training, attempt: Attempt) -> None:
    """Remove what is no longer needed, and what dead saves left behind.

    Kept are the `keep` checkpoints to choose first, the first of them that is on schedule, and each
    at a multiple of `keep_every`. What an attempt newer than `attempt` has made or is making is not
    touched.
    """
    found = committed(run)
    kept = {checkpoint.folder for checkpoint in found[: training.keep]}
    kept |= {c.folder for c in [c for c in found if _is_on_schedule(training, c.step)][:1]}
    if training.keep_every:
        kept |= {c.folder for c in found if c.step and c.step % training.keep_every == 0}
    for path in run.checkpoints.iterdir():
        name = path.name.removeprefix(".universal-").removeprefix(".")
        numbers = checkpoint_numbers(path.with_name(name))
        if numbers and path not in kept and numbers[1] <= attempt.number:
            shutil.rmtree(path)


def _link_files(folder: Path, copy: Path) -> None:
    for path in sorted(folder.rglob("*")):
        target = copy / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, target)
            with target.open("rb") as stream:
                os.fsync(stream.fileno())
    for made in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        sync_directory(made)


def _is_on_schedule(training: Training, step: int) -> bool:
    return training.checkpoint_every is None or step % training.checkpoint_every == 0
