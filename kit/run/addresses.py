"""Addresses of this node at which other nodes may reach it, and the network interfaces that have them.

The name of a host is no guide: on Ubuntu and Debian it resolves to 127.0.1.1 on the host itself.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NODE_ADDRESS = "EKIDEN_NODE_ADDRESS"  # of this node, as the scheduler has it: an address or a name
GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
_CONNECT = 5.0  # seconds to connect to an address
_SIOCGIFADDR = 0x8915  # linux/sockios.h


class Unreachable(Exception):  # noqa: N818  an answer, not an error
    """Raised by `reach` with the reason for each address."""


def interfaces() -> dict[str, str]:
    """The IPv4 address of each network interface that has one, by name."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has none
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def candidates(interface: str | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Addresses of this node for the other nodes to try, the likeliest first.

    Only that of `interface`, if given, else of gloo's. Raises ConfigError if this node lacks the interface.
    """
    here = interfaces()
    key, name = "cluster.training.interface", interface
    if name is None and environment.get(GLOO):
        key, name = f"cluster.environment.{GLOO}", environment[GLOO].split(",")[0]
    if name is None:
        return list(dict.fromkeys(_likely(here, environment.get(NODE_ADDRESS, ""))))
    if name not in here:
        available = ", ".join(f"{one} ({address})" for one, address in here.items())
        raise ConfigError(
            f"{key}={name}: {socket.gethostname()} has no such network interface with an IPv4 address; "
            f"it has {available}"
        )
    return [here[name]]


def reach(addresses: Iterable[str], port: int) -> tuple[str, str]:
    """Connect to the first address that answers; returns it, and this node's own side of the connection.

    Raises Unreachable.
    """
    failures = []
    for address in addresses:
        try:
            with socket.create_connection((address, port), _CONNECT) as connection:
                return address, str(connection.getsockname()[0])
        except OSError as error:
            failures.append(f"{address}: {error.strerror or error}")
    raise Unreachable("; ".join(failures) or "it has no address")


def interface_of(address: str) -> str | None:
    """The interface with an address of this node; None if no interface has it."""
    if ipaddress.ip_address(address).is_loopback:
        return "lo"
    return next((name for name, one in interfaces().items() if one == address), None)


def use(interface: str | None) -> None:
    """Let gloo and NCCL use an interface, unless the site has chosen theirs."""
    if interface is not None:
        os.environ.setdefault(GLOO, interface)
        os.environ.setdefault(NCCL, f"={interface}")  # not every one whose name begins so


def _likely(here: Mapping[str, str], of_node: str) -> Iterator[str]:
    """The scheduler's address of the node, that of its host name, then all its others."""
    if _is_address(of_node):
        yield of_node  # also 127.0.0.1: a site that is a single machine
    for name in (of_node, socket.gethostname()):
        if name and not _is_address(name):
            yield from _routable(_resolved(name))
    yield from _routable(here.values())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _resolved(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]


def _routable(addresses: Iterable[str]) -> Iterator[str]:
    return (one for one in addresses if not ipaddress.ip_address(one).is_loopback)
