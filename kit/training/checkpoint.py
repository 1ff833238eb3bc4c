"""Checkpoints: committed, or not there.

A checkpoint is written under a hidden name, each rank syncing and hashing its own files; rank 0
writes the manifest and renames. Resuming takes the newest that verifies, and puts a broken one
aside. Names carry step and attempt, so that an older attempt that still lives on a lost node can
neither overwrite nor be chosen.

    checkpoints/step-00000100.attempt-0002/{state/, checkpoint.json}
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kit.errors import CheckpointError
from kit.files import file_hash, read_json, sync_directory, write_json
from kit.tracking import ledger
from kit.workspace import checkpoint_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from kit.workspace import Attempt, Run

_RECORD = "checkpoint.json"
_STATE = "state"
_OWNER = re.compile(r"zero_pp_rank_(\d+)_")  # in DeepSpeed's names: the rank whose shard it is


class State(Protocol):
    """What can be saved and loaded: the engine."""

    def save(self, folder: Path, step: int, state: dict[str, Any]) -> None:
        """Write this rank's part."""

    def load(self, folder: Path) -> dict[str, Any]:
        """Read it."""


class Ranks(Protocol):
    """Who saves together: the team."""

    @property
    def rank(self) -> int:
        """This one."""

    @property
    def ranks(self) -> int:
        """How many."""

    def barrier(self) -> None:
        """Return when every rank has come."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    folder: Path
    step: int
    attempt: int

    @property
    def record(self) -> dict[str, Any]:
        """Its manifest: files with sizes and hashes, step, samples, ranks, data."""
        found: dict[str, Any] = read_json(self.folder / _RECORD)
        return found

    @property
    def weights(self) -> Path:
        """DeepSpeed's file with the model's weights."""
        return self.folder / _STATE / "mp_rank_00_model_states.pt"

    def load(self, engine: State) -> None:
        """Load it into the engine. A collective."""
        engine.load(self.folder / _STATE)

    def problem(self, *, read: bool = True) -> str | None:
        """What is wrong with its files, by size, and with `read` by hash; None if nothing.

        Raises OSError where they cannot be read at all: that is the file system's trouble, and says
        nothing of the checkpoint.
        """
        try:
            files: dict[str, dict[str, Any]] = self.record["files"]
        except (FileNotFoundError, ValueError, KeyError) as error:
            return f"{_RECORD} cannot be read ({error})"
        for name, record in files.items():
            path = self.folder / _STATE / name
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
        attempt.number: read_json(attempt.start)["from_step"] for attempt in ledger.attempts(run)
    }
    chosen = [
        checkpoint
        for checkpoint in found
        if all(checkpoint.step <= step for n, step in starts.items() if n > checkpoint.attempt)
    ]
    return sorted(chosen, key=lambda c: (c.attempt, c.step), reverse=True)


def newest(run: Run) -> Checkpoint | None:
    """The checkpoint to resume from: the first of `committed` that verifies.

    A broken one is put aside, under a name that is never chosen, and said so. None where the run
    has no checkpoint yet; raises CheckpointError where it had some, and none verifies.
    """
    for checkpoint in committed(run):
        problem = checkpoint.problem()
        if problem is None:
            return checkpoint
        aside = checkpoint.folder.with_name(f"broken-{checkpoint.folder.name}-{time.time_ns()}")
        checkpoint.folder.rename(aside)
        print(
            f"checkpoint {checkpoint.folder}: {problem}; put aside as {aside.name}", file=sys.stderr
        )
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


def save(
    run: Run,
    attempt: Attempt,
    engine: State,
    step: int,
    facts: dict[str, Any],
    team: Ranks,
) -> Checkpoint:
    """Commit the state after `step` steps. Every rank calls it; it returns when all is durable."""
    folder = run.checkpoint(step, attempt.number)
    staging = folder.with_name(f".{folder.name}")
    state = staging / _STATE
    if team.rank == 0:
        shutil.rmtree(staging, ignore_errors=True)
        state.mkdir(parents=True)
    team.barrier()
    engine.save(state, step, facts)
    mine = {
        path.name: _settle(path) for path in sorted(state.iterdir()) if _owner(path) == team.rank
    }
    write_json(staging / f"done-{team.rank}.json", mine)
    team.barrier()
    if team.rank == 0:
        files: dict[str, Any] = {}
        for other in range(team.ranks):
            done = staging / f"done-{other}.json"
            files |= read_json(done)
            done.unlink()
        sync_directory(state)
        record = {**facts, "step": step, "ranks": team.ranks, "time": time.time(), "files": files}
        write_json(staging / _RECORD, record)
        staging.rename(folder)
        sync_directory(run.checkpoints)
    team.barrier()
    return Checkpoint(folder, step, attempt.number)


def prune(run: Run, keep: int, attempt: Attempt) -> None:
    """Remove all but the `keep` checkpoints to choose first, and what dead saves left behind.

    What an attempt newer than `attempt` has made or is making is not touched.
    """
    kept = {checkpoint.folder for checkpoint in committed(run)[:keep]}
    for path in run.checkpoints.iterdir():
        numbers = checkpoint_numbers(path.with_name(path.name.removeprefix(".")))
        if numbers and path not in kept and numbers[1] <= attempt.number:
            shutil.rmtree(path)


def _owner(path: Path) -> int:
    """The rank that wrote a file of DeepSpeed's."""
    match = _OWNER.search(path.name)
    return int(match[1]) if match else 0


def _settle(path: Path) -> dict[str, Any]:
    """Sync a file, and describe it."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return {"size": path.stat().st_size, "xxh3": file_hash(path)}
