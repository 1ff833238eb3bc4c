"""The rows of the ledger by kind: their keys, in the order in which they are written.

Values that are not finite are null. A key that some rows or earlier versions lack is `NotRequired`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from kit.store.records import Numerics, Result, StartTimes


class StepFigures(TypedDict):
    """Results of a step."""

    loss: float | None  # cross-entropy, nats a token
    learning_rate: float
    gradient_norm: float | None
    z_loss: NotRequired[float | None]  # the other term that is minimised, with training.z_loss
    loss_scale: NotRequired[float]  # fp16


class Flags(TypedDict, total=False):
    """Why the update of a step was skipped."""

    skipped: Literal[True]  # a bad step
    overflow: Literal[True]  # its gradient overflowed in fp16 at that loss scale


class AttemptFields(StartTimes):
    """The start of an attempt."""

    step: int  # the one it starts from
    steps: int  # the last of the run
    schedule: NotRequired[list[dict[str, Any]]]
    parameters: int
    training_tokens: int
    ranks: int
    accumulation: int
    job: NotRequired[str]  # the token of this start of the job: Slurm's id and restarts
    nodes: NotRequired[str]  # of the job, in Slurm's notation
    met: NotRequired[float]  # Unix time at which all ranks had joined
    numerics: NotRequired[Numerics]  # all that decides the bits of its results
    inexact: NotRequired[list[str]]  # why it need not be bit-equal to an uninterrupted run
    kept_seconds: NotRequired[float]  # of the steps before it that it keeps, times ranks
    held_seconds: NotRequired[float]  # for which earlier attempts held their nodes, times ranks
    lost_steps: NotRequired[int]  # done by earlier attempts and not kept
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


class StepUsage(TypedDict):
    """What a step used."""

    seconds: float
    data_seconds: NotRequired[float]  # waiting for data, on the rank that waited longest
    slowest_rank: NotRequired[int]  # the rank whose own work, data and forward passes, took longest
    slowest_behind: NotRequired[float]  # by how many seconds longer than the median rank's
    memory_bytes: NotRequired[
        int
    ]  # peak of tensors (on a CPU of the process), maximum over all ranks
    reserved_bytes: NotRequired[int]  # peak of the memory that torch held on a GPU, likewise


class StepFields(StepFigures, Flags, StepUsage):
    """A finished step."""

    step: int
    sample: int  # the number of the next sample
    tokens: NotRequired[int]  # of the samples before that one
    tokens_per_second: float
    mfu: float | None


class GpuReading(TypedDict):
    """A GPU at one moment, as NVML has it; None for a value that it does not support."""

    index: int  # as nvidia-smi counts
    utilisation: float | None  # share of the last moments in which a kernel ran
    temperature: int | None  # °C
    power: float | None  # watts
    clock: int | None  # of the multiprocessors, MHz
    memory_bytes: int | None  # in use by all processes


class DevicesFields(TypedDict):
    """The GPUs of rank 0's node, at most every ten seconds."""

    step: int  # the last finished one
    gpus: list[GpuReading]


class ValidationFields(TypedDict):
    """A validation."""

    step: int
    validation_loss: float | None
    bits_per_byte: NotRequired[float | None]  # of the held-out text
    seconds: float


class SampleFields(TypedDict):
    """A text that the model wrote at a validation, whose row follows."""

    step: int
    prompt: str
    text: str  # the prompt and its continuation


class CheckpointFields(TypedDict):
    """A committed checkpoint."""

    step: int
    blocked: float  # seconds for which it blocked training
    seconds: float  # until it was committed
    rested: NotRequired[float]  # seconds of those: the writers left the cores to training
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


class DevicesRow(Stamp, DevicesFields):
    """See `DevicesFields`."""

    kind: Literal["devices"]


class ValidationRow(Stamp, ValidationFields):
    """See `ValidationFields`."""

    kind: Literal["validation"]


class SampleRow(Stamp, SampleFields):
    """See `SampleFields`."""

    kind: Literal["sample"]


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
    | DevicesRow
    | SampleRow
    | CheckpointRow
    | SaveFailedRow
    | HealthRow
    | RollbackRow
    | EndRow
)
