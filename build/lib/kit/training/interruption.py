"""Signals, and what the ranks make of them together.

A handler only sets a flag. Between micro-batches the ranks take the maximum of their flags: all of
them leave, at the same place, or none does, whichever of them was signalled.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from torch.distributed import ProcessGroup

# USR2 comes before a time limit, TERM with a preemption or an scancel.
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Interruption:
    """The signal this process has got, if any. Handlers are installed when it is made."""

    def __init__(self) -> None:
        self.received = 0
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)  # Slurm sends it first, to stopped jobs

    def agreed(self, control: ProcessGroup) -> signal.Signals | None:
        """The signal that any rank has got. A collective: every rank calls it at the same place."""
        import torch
        import torch.distributed as dist

        flag = torch.tensor([self.received])
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=control)
        number = int(flag.item())
        return signal.Signals(number) if number else None

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = max(self.received, number)
