"""The ranks of an attempt as one: what they decide, they decide together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.distributed as dist

if TYPE_CHECKING:
    from signal import Signals

    from torch import Tensor
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

    from kit.training.interruption import Interruption


@dataclass(frozen=True)
class Team:
    """This rank among the others. Every method is a collective: all ranks call it, in one order.

    The group is of gloo, whatever the device: a decision never waits for a GPU.
    """

    rank: int
    ranks: int
    interruption: Interruption
    control: ProcessGroup

    @classmethod
    def join(
        cls, backend: str, store: Store, rank: int, ranks: int, interruption: Interruption
    ) -> Team:
        """Meet the other ranks at the store; the default group is of `backend`."""
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks)
        return cls(rank, ranks, interruption, dist.new_group(backend="gloo"))

    def leave(self) -> None:
        """Take the groups down, after everything."""
        dist.destroy_process_group()

    def barrier(self) -> None:
        """Return when every rank has come."""
        dist.barrier(group=self.control)

    def signal(self) -> Signals | None:
        """The signal that any rank has got."""
        return self.interruption.agreed(self.control)

    def sum(self, value: Tensor) -> float:
        """The sum of a CPU scalar over all ranks."""
        dist.all_reduce(value, group=self.control)
        return float(value)
