"""Progress of a run: the part of a checkpoint that is not tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict, cast


class ProgressRecord(TypedDict):
    """The fields of `Progress`, in a checkpoint's manifest."""

    step: int
    sample: int
    passed_over: list[list[int]]
    validated: int
    losses: list[float]
    gradient_norms: list[float]
    bad_steps: int
    trained: float
    blocked: float
    slowest_save: float


@dataclass
class Progress:
    """The state of the loop at a step boundary. Samples are counted over all ranks."""

    step: int = 0  # full steps done
    sample: int = 0  # the number of the next sample
    passed_over: list[list[int]] = field(default_factory=list)  # [first, end) of samples, each
    validated: int = -1  # the last step that was validated
    losses: list[float] = field(default_factory=list)  # of the last good steps, nats a token
    gradient_norms: list[float] = field(default_factory=list)
    bad_steps: int = 0  # in a row, until now
    trained: float = 0.0  # seconds in the loop, over all attempts
    blocked: float = 0.0  # seconds for which the last save blocked the loop
    slowest_save: float = 0.0  # seconds from the start of a save to its commit, the longest so far

    def record(self) -> ProgressRecord:
        """The values for a checkpoint's manifest."""
        return cast("ProgressRecord", asdict(self))

    @classmethod
    def from_record(cls, record: ProgressRecord) -> Progress:
        """Read the values from a checkpoint's manifest."""
        values: dict[str, Any] = {**record}
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def good_step(self, loss: float, gradient_norm: float, window: int) -> None:
        """Remember loss and gradient norm of a good step; the last `window` steps are kept."""
        self.losses = [*self.losses, loss][-window:]
        self.gradient_norms = [*self.gradient_norms, gradient_norm][-window:]
        self.bad_steps = 0

    def roll_back(self, record: ProgressRecord, sample: int) -> None:
        """Return to a checkpoint's progress, but skip the samples from there up to `sample`."""
        slowest_save = self.slowest_save
        vars(self).update(vars(Progress.from_record(record)))
        self.passed_over.append([self.sample, sample])
        self.sample, self.slowest_save = sample, slowest_save
