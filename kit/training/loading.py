"""Reading of a checkpoint by all ranks: each reads its own files, and verifies them in the same pass.

Nothing is loaded before all ranks have agreed that every byte is as it was written. Files that no rank
needs are verified too, shared out among the ranks; so is a whole checkpoint that must be
converted for another number of ranks.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kit.errors import CheckpointError
from kit.output import log
from kit.output.quantities import duration, size
from kit.store.files import write_json
from kit.tracking import ledger
from kit.training import checkpoint, file_in_memory
from kit.training.file_in_memory import Damaged, FileInMemory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Beginning, Output, Start
    from kit.training.checkpoint import Checkpoint

_READERS = 4  # threads of a rank: reading and hashing release the interpreter's lock
_WORTH_A_LINE = 2.0  # seconds
_OWNER = re.compile(r"zero_pp_rank_(\d+)_")  # in the names of DeepSpeed's files


class Ranks(Protocol):
    """The ranks that read together."""

    @property
    def rank(self) -> int:
        """The number of this rank."""

    @property
    def world_size(self) -> int:
        """The number of ranks."""

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""

    def gather_objects(self, value: Any) -> list[Any]:
        """The value of each rank."""


@dataclass(frozen=True)
class Part:
    """A checkpoint that was verified, and this rank's files; none if it must be converted for them."""

    checkpoint: Checkpoint
    files: Mapping[str, FileInMemory]

    def close(self) -> None:
        """Give the memory back."""
        for file in self.files.values():
            file.close()


def beginning(run: Run, resumed: Checkpoint | None) -> Beginning:
    """What an attempt's `start.json` says of the checkpoint that it begins with."""
    step = resumed.step if resumed else 0
    # An earlier attempt may have validated at this step before it died: the ledger has the row.
    validated = any(
        row["kind"] == "validation" and row["step"] == step
        for row in ledger.canonical(run, step - 1)
    )
    name = resumed.folder.name if resumed else None
    return {"from_step": step, "validated": validated, "checkpoint": name}


def begin(run: Run, attempt: Attempt, start: Start, ranks: Ranks) -> tuple[Start, Part | None]:
    """Read the checkpoint that `start` names; None at step 0.

    If it is damaged, rank 0 sets it aside and takes the one before, in `start.json` too: the second value
    belongs to the first. Raises CheckpointError on all ranks if none is left.
    """
    while start["checkpoint"] is not None:
        part = read(checkpoint.by_name(run, start["checkpoint"]), ranks)
        if isinstance(part, Part):
            return start, part
        start = _with_another(run, attempt, start, part, ranks)
    return start, None


def first_whole(candidates: Sequence[Checkpoint], ranks: Ranks) -> Part | None:
    """Read the first of rank 0's candidates that is not damaged; None if there is none."""
    for found in ranks.broadcast(candidates):
        if isinstance(part := read(found, ranks), Part):
            return part
    return None


def read(found: Checkpoint, ranks: Ranks) -> Part | str:
    """Read this rank's part of a checkpoint, and verify it; a fault that any rank found, as text."""
    log.info(f"verifying the checkpoint of {found.origin}")
    began, record = time.monotonic(), found.record
    needed, only_verified = shares(record["files"], record["ranks"], ranks.rank, ranks.world_size)
    files, problems = _read(found, needed, only_verified)
    part = Part(found, files)
    problem: str | None = next(filter(None, ranks.gather_objects("; ".join(problems))), None)
    if problem is not None:
        part.close()
        return problem
    if (seconds := time.monotonic() - began) > _WORTH_A_LINE:
        own = sum(record["files"][name]["size"] for name in needed + only_verified)
        whole = sum(file["size"] for file in record["files"].values())
        log.info(
            f"verified {size(whole)} in {duration(seconds)}; this rank read {size(own)}, "
            f"{size(own / seconds)}/s"
        )
    return part


def shares(
    files: Mapping[str, Output], saved_by: int, rank: int, ranks: int
) -> tuple[list[str], list[str]]:
    """The files that a rank loads, and those that it only verifies. Together the ranks have all files.

    It loads none if another number of ranks saved them, unless that did not matter: without ZeRO.
    """
    fits = saved_by == ranks or all(_owner(name) is None for name in files)
    needed = [name for name in files if fits and _owner(name) in (None, rank)]
    left = [name for name in files if not (fits and _owner(name) in (None, *range(ranks)))]
    load = [0] * ranks
    verified: list[list[str]] = [[] for _ in range(ranks)]
    for name in sorted(left, key=lambda name: (-files[name]["size"], name)):
        least = load.index(min(load))
        load[least] += files[name]["size"]
        verified[least].append(name)
    return needed, verified[rank]


def _read(
    found: Checkpoint, needed: Sequence[str], only_verified: Sequence[str]
) -> tuple[dict[str, FileInMemory], list[str]]:
    """The files that could be read, and what is wrong with the others."""
    expected = found.record["files"]
    files: dict[str, FileInMemory] = {}
    problems: list[str] = []
    with ThreadPoolExecutor(_READERS) as readers:
        jobs = {
            name: readers.submit(
                file_in_memory.read,
                found.state / name,
                expected[name],
                shared=found.record["ranks"] > 1 and _owner(name) is None,
            )
            for name in needed
        } | {
            name: readers.submit(file_in_memory.verify, found.state / name, expected[name])
            for name in only_verified
        }
        for name, job in jobs.items():
            try:
                file = job.result()
            except Damaged as problem:
                problems.append(str(problem))
            else:
                if file is not None:
                    files[name] = file
    return files, problems


def _with_another(run: Run, attempt: Attempt, start: Start, problem: str, ranks: Ranks) -> Start:
    """Rank 0: set the checkpoint of `start` aside, record the next; its error is raised on all ranks."""
    result: Start | CheckpointError | None = None
    if ranks.rank == 0:
        assert start["checkpoint"] is not None
        checkpoint.set_aside(checkpoint.by_name(run, start["checkpoint"]), problem)
        try:
            result = {**start, **beginning(run, checkpoint.newest(run))}
            write_json(attempt.start, result)
        except CheckpointError as error:
            result = error
    result = ranks.broadcast(result)
    if isinstance(result, CheckpointError):
        raise result
    assert result is not None
    return result


def _owner(name: str) -> int | None:
    """The rank that a file belongs to; None: to all."""
    found = _OWNER.search(name)
    return int(found[1]) if found else None
