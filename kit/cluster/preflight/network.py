"""Ports and names: rank 0 opens a port on its node, and the ranks of other nodes connect to its name."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.cluster.preflight.finding import Site

_PATIENCE = 5.0  # seconds for a connection
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


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
    """Whether this machine's name leads to it, and for several nodes not to its loopback."""
    several, name = site.cluster.training.nodes > 1, socket.gethostname()
    remedy = "enter the name of each node in DNS, or in /etc/hosts with its address in the network"
    try:
        with listening(name) as (host, number):
            socket.create_connection((name, number), _PATIENCE).close()
    except OSError as error:
        found = f"{name}: cannot be reached by its name ({error.strerror or error})"
        if several:
            return Finding("address", "bad", found, remedy)
        return Finding("address", "ok", f"{found}; a single node does not need it")
    chosen = [name for name in _INTERFACES if name in site.cluster.environment]
    if several and ipaddress.ip_address(host).is_loopback and not chosen:
        remedy = f"remove {host} from its line in /etc/hosts, or set {' or '.join(_INTERFACES)} in "
        remedy += "cluster.environment"
        return warning("address", f"{name} leads to {host}, which other nodes cannot reach", remedy)
    return Finding("address", "ok", f"{name} leads to {host}")


@contextlib.contextmanager
def listening(name: str) -> Iterator[tuple[str, int]]:
    """Listen on a free port of the address that a name leads to. Raises OSError."""
    host = str(socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    with socket.create_server((host, 0)) as server:
        yield host, server.getsockname()[1]


def unreachable(name: str, number: int) -> str | None:
    """Why another node cannot be reached, or None."""
    try:
        socket.create_connection((name, number), _PATIENCE).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
