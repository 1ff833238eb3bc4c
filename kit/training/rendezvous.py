"""Where the ranks of an attempt meet: a store of rank 0, and the network between their nodes.

On a single node they meet over loopback. On several, rank 0 publishes the addresses of its node, and every
other rank takes the first that it can connect to. Its own side of that connection names the interface for
gloo and NCCL.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from kit.errors import JobFailed
from kit.run import addresses

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store, TCPStore

    from kit.store.records import Start

_LOOPBACK = "127.0.0.1"
_CHOSEN = "ekiden/address"  # key of the store: the address at which another node reached it
_PORTS = range(10_000, 30_000)  # below those that Linux gives to clients (ip_local_port_range)


def open_store(job: str, world_size: int, nodes: int) -> TCPStore:
    """Rank 0's store. On several nodes its port follows from the job's id, for firewalls, if it is free."""
    from torch._C._distributed_c10d import TCPStore
    from torch.distributed import DistNetworkError

    for port in (port_of(job), 0) if nodes > 1 else (0,):
        try:
            return TCPStore(_LOOPBACK, port, world_size, is_master=True, wait_for_workers=False)
        except DistNetworkError:
            if port == 0:
                raise
    raise AssertionError


def port_of(job: str) -> int:
    """The port that a job tries first, by the token of its start."""
    number = re.match(r"\d+", job)
    return _PORTS[int(number[0]) % len(_PORTS)] if number else 0


def published(nodes: int, interface: str | None) -> list[str]:
    """The addresses of rank 0's node for the other ranks. Raises ConfigError for an unknown interface."""
    return [_LOOPBACK] if nodes == 1 else addresses.candidates(interface)


def connect(start: Start, rank: int, node: int) -> TCPStore:
    """Any other rank's view of the store, at the first address it can connect to; `node` from 0.

    Raises JobFailed if there is none.
    """
    try:
        address, own = addresses.reach(start["addresses"], start["port"])
    except addresses.Unreachable as reasons:
        raise JobFailed(
            f"rank {rank} on {socket.gethostname()}: cannot connect to port {start['port']} of rank 0 on "
            f"{start['node']} ({reasons}); set cluster.training.interface to the network between the "
            "nodes, or open the ports between them"
        ) from None
    store = _client(start, address)
    addresses.use(addresses.interface_of(own))
    if node > 0:
        store.set(_CHOSEN, address)
    return store


def use_network(store: Store, nodes: int) -> None:
    """Rank 0, once all ranks have connected: use the interface at which other nodes reached it."""
    address = _LOOPBACK if nodes == 1 else store.get(_CHOSEN).decode()
    addresses.use(addresses.interface_of(address))


def _client(start: Start, address: str) -> TCPStore:
    from torch._C._distributed_c10d import TCPStore

    return TCPStore(address, start["port"], start["ranks"], is_master=False)
