"""Collective operations over the ranks of an attempt: barrier, broadcast, all-reduce.

Every decision that ranks must share goes through here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from kit.output import log
from kit.training import rendezvous
from kit.training.interruption import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

    from kit.training.device import Device
    from kit.training.interruption import Interruption

_ARRIVED = "ekiden/arrived"  # key of the store: how many ranks have joined
# The watchdog bounds every wait. The time-outs of gloo, NCCL and the store run on while Slurm has suspended
# the job, and would end it as soon as it is resumed.
_NO_TIMEOUT = timedelta(days=365)
_POLL, _LOG_EVERY = 0.1, 30.0  # seconds
_NAMED = 8  # missing ranks in a line


@dataclass(frozen=True)
class Collectives:
    """One rank's process group. Every method is a collective: all ranks call it, in the same order.

    The backend is gloo on every device: a decision never waits for a GPU.
    """

    rank: int
    world_size: int
    interruption: Interruption
    control: ProcessGroup
    joined: float = 0.0  # Unix time at which all ranks had joined

    @classmethod
    def join(
        cls,
        device: Device,
        store: Store,
        rank: int,
        world_size: int,
        interruption: Interruption,
        nodes: int = 1,
    ) -> Collectives:
        """Join the other ranks through `store`, with torch's default process group on `device`."""
        chosen = device.select()  # before NCCL, which would take the first GPU
        _leave_time_limits_to_the_watchdog(store)
        _wait_for_ranks(store, rank, world_size)
        if rank == 0:
            rendezvous.use_network(store, nodes)
        # NCCL connects here and not in the first step; the groups made later are split from this one. With
        # a single rank there is nothing to connect.
        bound = chosen if device.is_gpu and world_size > 1 else None
        dist.init_process_group(
            device.backend, store=store, rank=rank, world_size=world_size, device_id=bound
        )
        control = dist.new_group(backend="gloo")
        control.bound_device_id = None  # its barrier would allocate on the GPU
        return cls(rank, world_size, interruption, control, time.time())

    def leave(self) -> None:
        """Destroy the process groups; the last call."""
        dist.destroy_process_group()

    def barrier(self) -> None:
        """Block until every rank has arrived."""
        dist.barrier(group=self.control)

    def begin_to_agree(self) -> Callable[[], Reason]:
        """Start an all-reduce max of the reasons to stop; call the result for it, NONE if no rank has one.

        The ranks agree in threads of gloo meanwhile.
        """
        reason = torch.tensor([self.interruption.received], dtype=torch.int64)
        work = dist.all_reduce(reason, dist.ReduceOp.MAX, group=self.control, async_op=True)

        def agreed() -> Reason:
            work.wait()
            return Reason(reason.tolist()[0])

        return agreed

    def max(self, values: Sequence[int]) -> list[int]:
        """All-reduce max, element by element."""
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return tensor.tolist()

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every rank, in the order of the ranks."""
        tensor = torch.tensor(values, dtype=torch.float64)
        ranks = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(ranks, tensor, group=self.control)
        return [one.tolist() for one in ranks]

    def gather_objects(self, value: Any) -> list[Any]:
        """The value of every rank, in the order of the ranks; any object that can be pickled."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def sum(self, value: Tensor) -> float:
        """All-reduce sum of a CPU scalar."""
        dist.all_reduce(value, group=self.control)
        return float(value)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank; any object that can be pickled."""
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control, device=torch.device("cpu"))
        return values[0]


def _leave_time_limits_to_the_watchdog(store: Store) -> None:
    """Let neither the store nor any process group have a time-out: those that DeepSpeed makes take none.

    torch would give such groups its defaults, ten minutes with NCCL and thirty with gloo.
    """
    store.set_timeout(_NO_TIMEOUT)
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):
        setattr(distributed_c10d, name, _NO_TIMEOUT)


def _wait_for_ranks(store: Store, rank: int, world_size: int) -> None:
    """Count this rank in; rank 0 waits for the others, and logs how many have joined."""
    store.set(f"{_ARRIVED}/{rank}", "")
    arrived = store.add(_ARRIVED, 1)
    logged, logged_at = 0, 0.0
    while rank == 0 and arrived < world_size:
        now = time.monotonic()
        if arrived != logged or now > logged_at + _LOG_EVERY:
            logged, logged_at = arrived, now
            missing = [r for r in range(world_size) if not store.check([f"{_ARRIVED}/{r}"])]
            names = ", ".join(map(str, missing[:_NAMED])) + (" ..." if missing[_NAMED:] else "")
            word = "rank" if len(missing) == 1 else "ranks"
            log.info(
                f"waiting: {arrived:,} of {world_size:,} ranks have joined; missing: {word} {names}"
            )
        time.sleep(_POLL)
        arrived = store.add(_ARRIVED, 0)
