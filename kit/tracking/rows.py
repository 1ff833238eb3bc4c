"""The rows of the ledger by kind: their keys, in the order in which they are written.

Values that are not finite are null. A key that some rows or earlier versions lack is `NotRequired`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from kit.store.records import Result


class StepFigures(TypedDict):
    """Results of a step."""

    loss: float | None  # nats a token
    learning_rate: float
    gradient_norm: float | None
    loss_scale: NotRequired[float]  # fp16


class Flags(TypedDict, total=False):
    """Why the update of a step was skipped."""

    skipped: Literal[True]  # a bad step
    overflow: Literal[True]  # its gradient overflowed in fp16 at that loss scale


class AttemptFields(TypedDict):
    """The start of an attempt."""

    step: int  # the one it starts from
    steps: int  # the last of the run
    schedule: NotRequired[list[dict[str, Any]]]
    parameters: int
    training_tokens: int
    ranks: int
    accumulation: int
    origin: NotRequired[dict[str, Any]]  # of a fork


class AmendmentFields(TypedDict):
    """An amendment that this attempt is the first to apply."""

    step: int
    amended: float  # Unix time
    key: str
    old: Any
    new: Any
    cluster: NotRequired[str]
    schedule: NotRequired[str]


class StepFields(StepFigures, Flags):
    """A finished step."""

    step: int
    sample: int  # the number of the next sample
    seconds: float
    tokens_per_second: float
    mfu: float | None
    memory_bytes: NotRequired[int]  # peak memory, the maximum over all ranks


class ValidationFields(TypedDict):
    """A validation."""

    step: int
    validation_loss: float | None
    seconds: float


class CheckpointFields(TypedDict):
    """A committed checkpoint."""

    step: int
    blocked: float  # seconds for which it blocked training
    seconds: float  # until it was committed
    bytes: int


class SaveFailedFields(TypedDict):
    """A failed save."""

    step: int
    reason: str


class HealthFields(TypedDict):
    """A bad step that was skipped, or that stops the run."""

    step: int
    what: str
    action: Literal["skip", "stop"]


class RollbackFields(TypedDict):
    """A rollback after a bad step: rows beyond `to_step` no longer count."""

    step: int
    what: str
    to_step: int
    passed_over: list[int]  # samples [first, end)


class Stamp(TypedDict):
    """Keys of every row."""

    attempt: int
    time: float  # Unix


class AttemptRow(Stamp, AttemptFields):
    """See `AttemptFields`."""

    kind: Literal["attempt"]


class AmendmentRow(Stamp, AmendmentFields):
    """See `AmendmentFields`."""

    kind: Literal["amendment"]


class StepRow(Stamp, StepFields):
    """See `StepFields`."""

    kind: Literal["step"]


class ValidationRow(Stamp, ValidationFields):
    """See `ValidationFields`."""

    kind: Literal["validation"]


class CheckpointRow(Stamp, CheckpointFields):
    """See `CheckpointFields`."""

    kind: Literal["checkpoint"]


class SaveFailedRow(Stamp, SaveFailedFields):
    """See `SaveFailedFields`."""

    kind: Literal["save_failed"]


class HealthRow(Stamp, HealthFields):
    """See `HealthFields`."""

    kind: Literal["health"]


class RollbackRow(Stamp, RollbackFields):
    """See `RollbackFields`."""

    kind: Literal["rollback"]


class EndRow(Stamp, Result):
    """How the attempt ended, as in its `end.json`."""

    kind: Literal["end"]


CurveRow = StepRow | ValidationRow
Row = (
    AttemptRow
    | AmendmentRow
    | CurveRow
    | CheckpointRow
    | SaveFailedRow
    | HealthRow
    | RollbackRow
    | EndRow
)
