"""Addresses at which the ranks of several nodes meet."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from kit.errors import ConfigError, JobFailed
from kit.run import addresses
from kit.training import rendezvous

HERE = {"lo": "127.0.0.1", "docker0": "172.17.0.1", "ens3": "10.0.0.5", "ib0": "192.168.7.5"}
NAMES = {"mdx1": "127.0.1.1", "mdx1-ib": "192.168.7.5"}


@pytest.fixture(autouse=True)
def a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of Ubuntu, whose name resolves to 127.0.1.1."""

    def resolve(name: str, port: int | None, *_: Any) -> list[Any]:
        if name == "no such host":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NAMES.get(name, name), port or 0))]

    monkeypatch.setattr(addresses, "interfaces", lambda: HERE)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "gethostname", lambda: "mdx1")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ["172.17.0.1", "10.0.0.5", "192.168.7.5"]),
        ({"EKIDEN_NODE_ADDRESS": "10.0.0.5"}, ["10.0.0.5", "172.17.0.1", "192.168.7.5"]),
        ({"EKIDEN_NODE_ADDRESS": "mdx1-ib"}, ["192.168.7.5", "172.17.0.1", "10.0.0.5"]),
        ({"EKIDEN_NODE_ADDRESS": "mdx1"}, ["172.17.0.1", "10.0.0.5", "192.168.7.5"]),
        ({"EKIDEN_NODE_ADDRESS": "no such host"}, ["172.17.0.1", "10.0.0.5", "192.168.7.5"]),
        # Slurm itself reaches its nodes there: they are one machine.
        (
            {"EKIDEN_NODE_ADDRESS": "127.0.0.1"},
            ["127.0.0.1", "172.17.0.1", "10.0.0.5", "192.168.7.5"],
        ),
        ({"GLOO_SOCKET_IFNAME": "ib0", "EKIDEN_NODE_ADDRESS": "10.0.0.5"}, ["192.168.7.5"]),
    ],
)
def test_slurms_address_of_the_node_is_tried_first_and_127_0_1_1_never(
    environment: dict[str, str], expected: list[str]
) -> None:
    assert addresses.candidates(None, environment) == expected


def test_the_interface_of_the_cluster_file_is_the_only_one_tried() -> None:
    assert addresses.candidates("ib0", {"GLOO_SOCKET_IFNAME": "ens3"}) == ["192.168.7.5"]
    with pytest.raises(ConfigError) as mistake:
        addresses.candidates("ib1", {})
    assert str(mistake.value) == (
        "cluster.training.interface=ib1: mdx1 has no such network interface with an IPv4 address; it has "
        "lo (127.0.0.1), docker0 (172.17.0.1), ens3 (10.0.0.5), ib0 (192.168.7.5)"
    )


def test_gloo_and_nccl_follow_unless_the_site_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (addresses.GLOO, addresses.NCCL):
        monkeypatch.setenv(name, "")  # so that it is put back in any case
        monkeypatch.delenv(name)
    monkeypatch.setenv(addresses.NCCL, "ib")
    for address, interface in (("192.168.7.5", "ib0"), ("127.0.1.1", "lo"), ("10.9.9.9", None)):
        assert addresses.interface_of(address) == interface
    addresses.use("ens3")
    assert (os.environ[addresses.GLOO], os.environ[addresses.NCCL]) == ("ens3", "ib")
    monkeypatch.delenv(addresses.NCCL)
    addresses.use("ib0")
    assert (os.environ[addresses.GLOO], os.environ[addresses.NCCL]) == ("ens3", "=ib0")


def test_ranks_of_one_node_meet_over_loopback() -> None:
    assert rendezvous.published(1, None) == ["127.0.0.1"]
    assert rendezvous.published(2, "ens3") == ["10.0.0.5"]


def test_the_port_follows_from_the_job_and_is_none_that_linux_gives_to_clients() -> None:
    assert rendezvous.port_of("1780001.3") == 10_001
    assert rendezvous.port_of("12_0.1") == 10_012
    assert rendezvous.port_of("train-0-abc.1") == 0  # any
    assert all(10_000 <= rendezvous.port_of(f"{job}.0") < 30_000 for job in range(0, 90_000, 997))


def test_a_rank_that_reaches_no_address_says_which_it_tried() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        start: Any = {"addresses": ["127.0.0.1"], "port": taken.getsockname()[1], "node": "mdx1"}
        with pytest.raises(JobFailed) as failed:
            rendezvous.connect(start, 3, 1)
    assert str(failed.value) == (
        f"rank 3 on mdx1: cannot connect to port {start['port']} of rank 0 on mdx1 (127.0.0.1: Connection "
        "refused); set cluster.training.interface to the network between the nodes, or open the ports "
        "between them"
    )
