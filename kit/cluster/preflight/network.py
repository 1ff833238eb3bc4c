"""Ports, and the addresses of this node: ranks on other nodes connect to a port of rank 0's.

The addresses are those that the training tries (kit/run/addresses.py): names of hosts need not resolve.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, NotChecked
from kit.errors import ConfigError
from kit.run import addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.cluster.preflight.finding import Site


def port(site: Site) -> Finding:  # noqa: ARG001
    """Whether a free port can be opened."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            number = server.getsockname()[1]
    except OSError as error:
        remedy = "end what holds the ports, or widen net.ipv4.ip_local_port_range"
        return Finding("port", "bad", f"no port is free ({error.strerror})", remedy)
    return Finding("port", "ok", f"{number} was free")


def address(site: Site) -> Finding:
    """Whether this node has an address for the ranks of other nodes."""
    if site.cluster.training.nodes == 1:
        raise NotChecked("training.nodes=1: ranks of one node meet over loopback")
    try:
        found = of_node(site)
    except ConfigError as error:
        return Finding("address", "bad", str(error), "correct that key")
    if not found:
        remedy = "see the network of the node: no interface has an IPv4 address"
        return Finding("address", "bad", "none but loopback", remedy)
    return Finding("address", "ok", ", ".join(found))


def of_node(site: Site) -> list[str]:
    """The addresses at which other nodes may reach this one. Raises ConfigError for a missing interface."""
    return addresses.candidates(site.cluster.training.interface)


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """Listen on a free port of all addresses, as rank 0 does. Raises OSError."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]
