"""What the small files of a workspace and a run hold: JSON objects, and what each key means.

A key that an earlier version did not write is `NotRequired`. The files are read here where more than one
room reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.store.paths import Attempt

Kind = Literal["wikipedia", "plaintext", "jsonl"]
Outcome = Literal["done", "interrupted", "stopped", "superseded", "failed"]


class Output(TypedDict):
    """A file of a manifest or of a checkpoint."""

    size: int  # bytes
    xxh3: str


class Causes(TypedDict):
    """All that decides the bytes of a stage's outputs."""

    stage: str
    version: int
    section: Mapping[str, Any]  # of the recipe
    inputs: Mapping[str, Any]


class Range(TypedDict):
    """Bytes [start, end) of a file, or of the text in a packed one."""

    path: str
    start: int
    end: int
    size: int  # of the file, bytes
    mtime_ns: int
    xxh3: str


class RangeFacts(TypedDict, total=False):
    """What the reader of a range must know of its kind."""

    header_end: int  # wikipedia: the bytes of the dump's head
    title: str  # wikipedia
    text_key: str  # jsonl


class Piece(Range, RangeFacts):
    """A range of a raw text, in the manifest of a download."""

    name: str
    source: str
    kind: Kind


class Manifest(TypedDict):
    """What a stage consumed and produced, with its facts."""

    causes: Causes
    outputs: dict[str, Output]
    pieces: NotRequired[list[Piece]]  # download
    documents: NotRequired[int]  # fingerprint
    counts: NotRequired[dict[str, dict[str, Any]]]  # preprocess, tokenize: by part
    faults: NotRequired[dict[str, int]]
    vocabulary: NotRequired[dict[str, int]]  # candidates, tokenizer
    spaces: NotRequired[str]  # tokenizer
    candidate: NotRequired[str]  # tokenizer
    measures: NotRequired[dict[str, float]]  # candidates
    tokens: NotRequired[dict[str, int]]  # tokenize: by part


class Start(TypedDict):
    """`start.json` of an attempt."""

    job: str  # the token of this start of the job
    ranks: int
    node: str
    host: str  # of rank 0's store
    port: int
    from_step: int
    validated: bool  # whether the validation of that step stands in the ledger
    checkpoint: str | None  # the name of its folder
    amendments: NotRequired[int]  # how many it knows
    time: float


class Result(TypedDict):
    """How a loop ended."""

    outcome: Outcome
    reason: str
    step: int
    saved: int  # the step of the last checkpoint


class End(Result):
    """`end.json` of an attempt."""

    job: str
    time: float


def start(attempt: Attempt) -> Start:
    """How an attempt set out. Raises FileNotFoundError before it has."""
    found: Start = read_json(attempt.start)
    return found


def end(attempt: Attempt) -> End | None:
    """How an attempt ended; None while it is at work, and after a crash."""
    if not attempt.end.is_file():
        return None
    found: End = read_json(attempt.end)
    return found
