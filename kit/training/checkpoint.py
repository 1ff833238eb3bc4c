"""Checkpoints on disk: committed, or not there.

Resuming takes the newest that verifies (kit/training/loading.py), and sets a broken one aside. Names
contain step and attempt, so that an older attempt, still alive on a lost node, overwrites nothing and is
never chosen.

    checkpoints/step-00000100.attempt-0002/{state/, checkpoint.json}
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired

import xxhash

from kit.errors import CheckpointError
from kit.output import log, program
from kit.store import records
from kit.store.files import read_json, sync_directory
from kit.store.paths import checkpoint_numbers
from kit.tracking import ledger
from kit.training import file_in_memory
from kit.training.file_in_memory import Damaged
from kit.training.progress import ProgressRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.config.recipe import Training
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Numerics, Output, Topology

_READERS = 8  # threads that hash files: xxhash and reads release the interpreter's lock
RECORD = "checkpoint.json"
STATE = "state"


class LoopRecord(ProgressRecord):
    """The part of a checkpoint's manifest that comes from the loop."""

    data: str  # the fingerprint of the tokens
    topology: Topology  # not in checkpoints of earlier versions
    numerics: NotRequired[Numerics]


class Record(LoopRecord):
    """The manifest of a checkpoint."""

    ranks: int
    time: float  # Unix
    files: dict[str, Output]


class SealedRecord(Record):
    """The same as it is on the disk."""

    xxh3: NotRequired[str]  # of all other keys; not in checkpoints of earlier versions


def sealed(record: Record) -> SealedRecord:
    """The manifest with the hash of its own keys, which shows damage to them."""
    return {**record, "xxh3": _seal(record)}


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    folder: Path
    step: int
    attempt: int

    @property
    def origin(self) -> str:
        """The step and who saved it: a fork's first checkpoint comes from its parent."""
        by = f"attempt {self.attempt}" if self.attempt else "the parent run"
        return f"step {self.step:,} of {by}"

    @property
    def record(self) -> SealedRecord:
        """Its manifest: files with sizes and hashes, ranks, data, and the progress of the loop."""
        record: SealedRecord = read_json(self.folder / RECORD)
        return record

    @property
    def state(self) -> Path:
        """The folder of DeepSpeed's files."""
        return self.folder / STATE

    def problem(self, *, read: bool = True) -> str | None:
        """The first fault of its files, by size and with `read` by hash too; None if there is none.

        Raises OSError if they cannot be read at all: the file system is at fault then, not the
        checkpoint.
        """
        try:
            own = self.record
            files = own["files"]
        except (FileNotFoundError, ValueError, KeyError) as error:
            return f"{RECORD} cannot be read ({error})"
        if not _is_intact(own):
            return f"{RECORD} has changed since it was written"
        for name, record in files.items():
            path = self.state / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != record["size"]:
                return f"{name} has {path.stat().st_size} of {record['size']} bytes"
        return self._changed(files) if read else None

    def _changed(self, files: Mapping[str, Output]) -> str | None:
        """The first file with another hash; all are read at once, since a file system has many disks."""
        with ThreadPoolExecutor(_READERS) as readers:
            problems = readers.map(self._problem_of, files.items())
            return next(filter(None, problems), None)

    def _problem_of(self, file: tuple[str, Output]) -> str | None:
        name, record = file
        try:
            file_in_memory.verify(self.state / name, record)
        except Damaged as problem:
            return str(problem)
        return None

    def ensure_own(self) -> None:
        """Raise CheckpointError unless all files belong to this user or root: for readers that unpickle."""
        for name in self.record["files"]:
            path = self.state / name
            if (owner := path.stat().st_uid) not in (os.geteuid(), 0):
                raise CheckpointError(
                    f"{path}: belongs to {_user(owner)}, and unpickling it can run code as you; if you "
                    f"trust them, make it yours: copy {self.folder} with `cp -r`, and replace it"
                )

    def ensure_intact_and_own(self) -> None:
        """The same, and that they are as they were written, by their hashes."""
        self.ensure_own()
        if problem := self.problem():
            raise CheckpointError(f"{self.folder}: {problem}")


def committed(run: Run) -> list[Checkpoint]:
    """All committed checkpoints that may be resumed from, the preferred one first.

    Those of a newer attempt come first; of an older attempt, only those up to the step from which
    the next attempt started.
    """
    checkpoints = [
        Checkpoint(path, step, attempt)
        for path, (step, attempt) in run.committed_checkpoints().items()
    ]
    starts = {
        attempt.number: records.start(attempt)["from_step"] for attempt in ledger.attempts(run)
    }
    resumable = [
        checkpoint
        for checkpoint in checkpoints
        if all(checkpoint.step <= step for n, step in starts.items() if n > checkpoint.attempt)
    ]
    return sorted(resumable, key=lambda c: (c.attempt, c.step), reverse=True)


def by_name(run: Run, name: str) -> Checkpoint:
    """The committed checkpoint in the folder `name`."""
    folder = run.checkpoints / name
    numbers = checkpoint_numbers(folder)
    assert numbers is not None, folder
    return Checkpoint(folder, *numbers)


def newest(run: Run) -> Checkpoint | None:
    """The checkpoint to resume from: the first of `committed` with all its files, by size.

    Their bytes are verified when they are read (kit/training/loading.py). A broken one is set aside. None
    if the run has no checkpoint yet; raises CheckpointError if it had some, and all are broken.
    """
    for checkpoint in committed(run):
        problem = checkpoint.problem(read=False)
        if problem is None:
            return checkpoint
        set_aside(checkpoint, problem)
    broken = sorted(run.checkpoints.glob("broken-*"))
    if broken:
        raise CheckpointError(
            f"{run.checkpoints}: every checkpoint is broken; restore one, or remove the broken-* "
            "folders to start from step 0"
        )
    return None


def set_aside(checkpoint: Checkpoint, problem: str) -> None:
    """Rename a broken checkpoint, so that it is never chosen, with a warning."""
    aside = checkpoint.folder.with_name(f"broken-{checkpoint.folder.name}-{time.time_ns()}")
    checkpoint.folder.rename(aside)
    log.warning(f"checkpoint {checkpoint.folder}: {problem}; set aside as {aside.name}")


def final(run: Run, remedy: str) -> Checkpoint:
    """The newest checkpoint with all its files, for release; sets nothing aside.

    Raises CheckpointError if there is none; `remedy` is the command that makes one.
    """
    for checkpoint in committed(run):
        if checkpoint.problem(read=False) is None:
            return checkpoint
    job = program.respelled(remedy)
    raise CheckpointError(f"{run.checkpoints}: no checkpoint; run {job} first")


def of_step(run: Run, step: int, option: str) -> Checkpoint:
    """The committed checkpoint of `step`, given by a command's `option`.

    Raises CheckpointError with the available steps if there is none.
    """
    checkpoints = committed(run)
    for checkpoint in checkpoints:
        if checkpoint.step == step:
            return checkpoint
    available = ", ".join(map(str, sorted({checkpoint.step for checkpoint in checkpoints})))
    raise CheckpointError(
        f"{option} {step}: {run.root} has no checkpoint of that step; it has: {available or 'none'}"
    )


def link(checkpoint: Checkpoint, copy: Path) -> None:
    """Hard-link a checkpoint's files into the folder `copy`, or copy them if they cannot be linked.

    They outlive the checkpoint, which its run may remove at any time. Raises CheckpointError if it
    does so before all are linked, or if a file is missing or has another size.
    """
    try:
        _link_files(checkpoint.folder, copy)
        problem = Checkpoint(copy, checkpoint.step, checkpoint.attempt).problem(read=False)
    except FileNotFoundError as error:
        problem = f"{error.filename} is missing"
    if problem is not None:
        raise CheckpointError(
            f"{checkpoint.folder}: {problem} (removed by its run just now, or damaged); choose another one"
        )


def on_schedule(run: Run, training: Training, step: int) -> list[Checkpoint]:
    """The checkpoints up to `step` on the recipe's schedule, the preferred target of a rollback first.

    Checkpoints saved for an interruption or a user are left out, so that a rollback does not depend
    on how the run was interrupted.
    """
    return [
        checkpoint
        for checkpoint in committed(run)
        if checkpoint.step <= step
        and _is_on_schedule(training, checkpoint.step)
        and checkpoint.problem(read=False) is None
    ]


def abandon(run: Run, attempt: Attempt, step: int) -> None:
    """Remove checkpoints beyond `step`, to which training has rolled back."""
    for checkpoint in committed(run):
        if checkpoint.step > step and checkpoint.attempt <= attempt.number:
            shutil.rmtree(checkpoint.folder)


def prune(run: Run, training: Training, attempt: Attempt) -> None:
    """Remove checkpoints that are no longer needed, and the remains of killed saves.

    Kept are the first `keep` of `committed`, the first one on schedule, and those at multiples of
    `keep_every`. Folders of attempts newer than `attempt` are not touched.
    """
    checkpoints = committed(run)
    kept = {checkpoint.folder for checkpoint in checkpoints[: training.keep]}
    kept |= {c.folder for c in [c for c in checkpoints if _is_on_schedule(training, c.step)][:1]}
    if training.keep_every:
        kept |= {c.folder for c in checkpoints if c.step and c.step % training.keep_every == 0}
    for path in run.checkpoints.iterdir():
        name = path.name.removeprefix(".universal-").removeprefix(".")
        numbers = checkpoint_numbers(path.with_name(name))
        if numbers and path not in kept and numbers[1] <= attempt.number:
            shutil.rmtree(path)


def _is_intact(record: SealedRecord) -> bool:
    """Whether the keys are as they were written, as far as that can be known of an earlier version."""
    if "xxh3" in record:
        return record["xxh3"] == _seal(record)
    return (
        record.keys() <= Record.__annotations__.keys()
    )  # else its own name may be what is damaged


def _seal(record: Mapping[str, Any]) -> str:
    values = {key: value for key, value in record.items() if key != "xxh3"}
    text = json.dumps(values, ensure_ascii=False, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _link_files(folder: Path, copy: Path) -> None:
    for path in sorted(folder.rglob("*")):
        target = copy / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(path, target)
            with target.open("rb") as stream:
                os.fsync(stream.fileno())
    for directory in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        sync_directory(directory)


def _is_on_schedule(training: Training, step: int) -> bool:
    return training.checkpoint_every is None or step % training.checkpoint_every == 0
