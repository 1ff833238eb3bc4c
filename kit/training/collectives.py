"""The ranks of an attempt as one: what they decide, they decide together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from kit.output import log
from kit.training.interruption import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

    from kit.training.interruption import Interruption

_ARRIVED = "ekiden/arrived"  # the store's count of ranks
_PATIENCE = 300.0  # seconds; after that torch waits, and says whom it misses
_POLL, _SILENCE = 0.1, 30.0  # seconds: between two looks, and between two lines


@dataclass(frozen=True)
class Collectives:
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
    ) -> Collectives:
        """Meet the other ranks at the store; the default group is of `backend`."""
        _gather(store, rank, ranks)
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks)
        return cls(rank, ranks, interruption, dist.new_group(backend="gloo"))

    def leave(self) -> None:
        """Take the groups down, after everything."""
        dist.destroy_process_group()

    def barrier(self) -> None:
        """Return when every rank has come."""
        dist.barrier(group=self.control)

    def agree_on_reason(self) -> Reason:
        """The reason to leave that any rank knows."""
        return Reason(self.max([self.interruption.received])[0])

    def max(self, values: Sequence[int]) -> list[int]:
        """The maximum over all ranks, value by value."""
        agreed = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(agreed, dist.ReduceOp.MAX, group=self.control)
        return agreed.tolist()

    def sum(self, value: Tensor) -> float:
        """The sum of a CPU scalar over all ranks."""
        dist.all_reduce(value, group=self.control)
        return float(value)

    def broadcast(self, value: Any) -> Any:
        """What rank 0 says."""
        said = [value]
        dist.broadcast_object_list(said, src=0, group=self.control, device=torch.device("cpu"))
        return said[0]


def _gather(store: Store, rank: int, ranks: int) -> None:
    """Be counted; rank 0 waits for the others, and says how many are there."""
    arrived = store.add(_ARRIVED, 1)
    began, said = time.monotonic(), (0, 0.0)  # how many, and when
    while rank == 0 and arrived < ranks and (now := time.monotonic()) < began + _PATIENCE:
        if arrived != said[0] or now > said[1] + _SILENCE:
            said = arrived, now
            log.info(f"waiting for ranks: {arrived:,} of {ranks:,} are there")
        time.sleep(_POLL)
        arrived = store.add(_ARRIVED, 0)
