"""The JSON records in the small files of a workspace and a run, with the meaning of each key.

A key that earlier versions did not write is `NotRequired`. Files that several packages need are read here.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from kit.errors import CheckpointError
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run

Kind = Literal["wikipedia", "plaintext", "jsonl", "parquet"]
BY_USER = "cancelled by its user"  # reason in `end.json` after `cancel` or Ctrl-C
WARNED = "SIGUSR2"  # the same after a warning that is none of the time limit, as of a preemption
DOES_NOT_FIT = "does not fit into the memory of"  # in the mistake of a run that is too large
Outcome = Literal["done", "interrupted", "stopped", "superseded", "failed"]


class Output(TypedDict):
    """A file of a manifest or of a checkpoint."""

    size: int  # bytes
    xxh3: str
    sha256: NotRequired[str]  # of a file that is published


class Causes(TypedDict):
    """Everything that decides the bytes of a stage's outputs."""

    stage: str
    version: int
    section: Mapping[str, Any]  # of the recipe
    inputs: Mapping[str, Any]


class Range(TypedDict):
    """Bytes [start, end) of a file, or of the text in a compressed one."""

    path: str
    start: int
    end: int
    size: int  # of the file, bytes
    mtime_ns: int
    xxh3: str


class RangeFacts(TypedDict, total=False):
    """Facts that the reader of a range needs, by kind."""

    header_end: int  # wikipedia: bytes of the dump's header; 0: its stream holds pages too
    title: str  # wikipedia
    text_key: str  # jsonl, parquet


class Piece(Range, RangeFacts):
    """A range of a raw text, in the manifest of a download."""

    name: str
    source: str
    kind: Kind


class Manifest(TypedDict):
    """The inputs and outputs of a stage, with facts about them."""

    causes: Causes
    outputs: dict[str, Output]
    pieces: NotRequired[list[Piece]]  # download
    documents: NotRequired[int]  # fingerprint, signatures
    bands: NotRequired[list[int]]  # signatures: different hashes in each band
    counts: NotRequired[dict[str, dict[str, Any]]]  # preprocess, tokenize: by part
    steps: NotRequired[
        dict[str, dict[str, int]]
    ]  # preprocess: documents, lines, characters by step
    faults: NotRequired[dict[str, int]]
    bytes_in: NotRequired[int]  # preprocess: of raw text
    tools: NotRequired[dict[str, str]]  # preprocess: versions of programs and packages
    vocabulary: NotRequired[dict[str, int]]  # candidates, tokenizer
    spaces: NotRequired[str]  # tokenizer
    candidate: NotRequired[str]  # tokenizer
    measures: NotRequired[dict[str, float]]  # candidates
    tokens: NotRequired[dict[str, int]]  # tokenize: by part


class StartTimes(TypedDict, total=False):
    """Unix times before `start.json` was written, as far as they are known; the first two from Slurm."""

    submitted: float  # or requeued
    eligible: float  # may start, as far as dependencies and delays go
    started: float  # its nodes are held from then on
    imported: float  # rank 0 has imported its modules


class PreflightCheck(TypedDict):
    """A check of a node before an attempt."""

    name: str
    result: Literal["ok", "warning", "bad"]
    found: str
    remedy: str  # empty if it is ok


class Preflight(TypedDict):
    """`preflight-NODE.json`: the checks of a node before the ranks met."""

    job: str  # the token of this start of the job
    node: str
    verdict: Literal["ok", "warning", "bad"]  # bad: the attempt did not begin
    checks: list[PreflightCheck]
    seconds: float
    time: float


class JobTimes(TypedDict):
    """`times-TOKEN.json` in the logs of the training: what Slurm says about a start of its job."""

    times: StartTimes
    nodes: str


class Topology(TypedDict):
    """The placement of ranks: it decides the order in which sums over ranks are rounded."""

    nodes: int
    ranks_per_node: int
    ranks: int
    backend: str  # gloo or nccl


class Numerics(TypedDict):
    """All that decides the bits of a run's results, beside its recipe and tokens."""

    facts: dict[str, str]  # versions, devices, kernels, placement; of all ranks
    environment: dict[str, str]  # variables that choose algorithms, as far as they are set


class Beginning(TypedDict):
    """The state that an attempt begins with."""

    from_step: int
    validated: bool  # whether the ledger has the validation of that step
    checkpoint: str | None  # the name of its folder


class Start(Beginning):
    """`start.json` of an attempt."""

    job: str  # the token of this start of the job
    ranks: int
    node: str
    addresses: list[str]  # of rank 0's store, for other ranks to try; `host` in earlier versions
    port: int
    topology: Topology  # not in attempts of earlier versions
    amendments: NotRequired[int]  # number of amendments it has applied
    times: NotRequired[StartTimes]
    nodes: NotRequired[str]  # of the job, in Slurm's notation
    time: float


class ProfilePart(TypedDict):
    """A part of a profiled step; times are means over its steps."""

    name: str
    calls: int  # a step
    seconds: float  # of the host
    device_seconds: float  # of the GPU, for the work that the host started there


class Profile(TypedDict):
    """The table of a profile of rank 0."""

    step: int  # the first
    steps: int
    trace: str  # name of the file beside it
    parts: list[ProfilePart]  # the whole step first; what no part covers is in it alone


class Result(TypedDict):
    """The outcome of a training loop."""

    outcome: Outcome
    reason: str
    step: int
    saved: int  # the step of the last checkpoint


class End(Result):
    """`end.json` of an attempt."""

    job: str
    time: float


def start(attempt: Attempt) -> Start:
    """Read an attempt's `start.json`.

    Raises FileNotFoundError before it is written, CheckpointError if it is damaged.
    """
    record: Start = _read(attempt.start)
    return record


def end(attempt: Attempt) -> End | None:
    """Read an attempt's `end.json`; None while it is running, and after a crash. Raises CheckpointError."""
    if not attempt.end.is_file():
        return None
    record: End = _read(attempt.end)
    return record


def preflights(attempt: Attempt) -> list[Preflight]:
    """The checks of its nodes that preceded an attempt, by name of the node. Raises CheckpointError."""
    return [_read(path) for path in sorted(attempt.root.glob("preflight-*.json"))]


def adopt_preflight(run: Run, attempt: Attempt, job: str) -> None:
    """Move the checks that preceded an attempt into its directory; one of a node that is unfit stays."""
    for path in run.preflights("train", job):
        with contextlib.suppress(FileNotFoundError):  # another node's rank has moved it
            path.rename(attempt.preflight(read_json(path)["node"]))


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise CheckpointError(
            f"{path}: damaged ({error}); restore it from a backup, or move the attempt's folder away"
        ) from None
