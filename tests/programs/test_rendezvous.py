"""Two machines with networks of their own: their ranks meet, whatever the names of hosts resolve to."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch.distributed as dist

from kit.output import log
from kit.store.files import read_json
from kit.store.paths import Run
from kit.training import collectives, rendezvous

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A rank: it meets the other one, and prints the interfaces that gloo and NCCL are to use.
RANK = """
import os, sys
from pathlib import Path
from kit.output import log
from kit.store.paths import Run
from kit.training import attempt
from kit.training.collectives import Collectives
from kit.training.device import Device
from kit.training.interruption import Interruption

run, rank = Run(Path(sys.argv[1])), int(sys.argv[2])
info = attempt.RankInfo("123.0", rank, 2, 0, 2, rank)
log.set_place(f"rank {rank}")
if rank == 0:
    _, store = attempt.claim(run, info, 0)
else:
    _, store = attempt.join(run, info, 60)
ranks = Collectives.join(Device("cpu", 0), store, rank, 2, Interruption(), nodes=2)
assert ranks.max([rank, 7]) == [1, 7]
ranks.barrier()
print(os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"], flush=True)
ranks.leave()
"""
# A machine as Ubuntu installs it: its name is 127.0.1.1 for itself. docker0 is the same on all of them.
SET_UP = """
set -e
hostname {name}
printf '127.0.0.1 localhost\\n127.0.1.1 {name}\\n' > {hosts}
mount --bind {hosts} /etc/hosts
ip link set lo up
ip link add docker0 type veth peer name docker1
ip addr add 172.17.0.1/16 dev docker0
ip link set docker0 up && ip link set docker1 up
ip link set {link} name ens3
ip addr add {address}/24 dev ens3
ip link set ens3 up
"""
ADDRESSES = ("192.0.2.1", "192.0.2.2")  # RFC 5737
NAMESPACES = ("--net", "--uts", "--mount")
UNSHARE = ["unshare", *NAMESPACES, "--propagation", "private"]


@contextmanager
def machine() -> Iterator[int]:
    """A process with a network, host name and mounts of its own, for as long as the block lasts."""
    own = [*UNSHARE, "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(own, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


def inside(process: int, *command: str) -> list[str]:
    """A command on a machine."""
    return ["nsenter", f"--target={process}", *NAMESPACES, *command]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """mdx1 and mdx2, with a cable between them."""
    if (
        os.geteuid()
        or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("network namespaces need root and CAP_SYS_ADMIN")
    with machine() as one, machine() as other:
        ends = ("net0", f"netns {one} type veth peer name net0 netns {other}")
        subprocess.run(["ip", "link", "add", ends[0], *ends[1].split()], check=True)
        for number, process in enumerate((one, other)):
            name = f"mdx{number + 1}"
            set_up = SET_UP.format(
                name=name, hosts=tmp_path / f"hosts-{name}", link="net0", address=ADDRESSES[number]
            )
            subprocess.run(inside(process, "bash", "-c", set_up), check=True)
        yield one, other


def start(machine: int, root: Path, run: Run, rank: int) -> subprocess.Popen[str]:
    command = inside(machine, sys.executable, "-c", RANK, str(run.root), str(rank))
    clean = {name: value for name, value in os.environ.items() if "SOCKET_IFNAME" not in name}
    return subprocess.Popen(
        command,
        env=clean | {"PYTHONPATH": str(root)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ranks_on_two_machines_meet_at_an_address_that_both_reach(
    machines: tuple[int, int], tmp_path: Path, root: Path
) -> None:
    run = Run(tmp_path / "run")
    ranks = [start(machines[n], root, run, n) for n in (0, 1)]
    for rank in ranks:
        output, errors = rank.communicate()
        assert (rank.returncode, output) == (0, "ens3 =ens3\n"), errors
    begun = read_json(run.attempt(1).start)
    assert ADDRESSES[0] in begun["addresses"]
    assert not [one for one in begun["addresses"] if one.startswith("127.")]
    assert begun["port"] == rendezvous.port_of("123.0") == 10_123
    assert begun["topology"] == {"nodes": 2, "ranks_per_node": 1, "ranks": 2, "backend": "gloo"}


@pytest.mark.parametrize(
    ("ranks", "line"),
    [
        (2, "waiting: 1 of 2 ranks have joined; missing: rank 1"),
        (10, "waiting: 1 of 10 ranks have joined; missing: ranks 1, 2, 3, 4, 5, 6, 7, 8 ..."),
    ],
)
def test_a_wait_names_the_missing_ranks(
    ranks: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = dist.HashStore(), []

    def join_the_others(text: str) -> None:
        said.append(text)
        for rank in range(1, ranks):
            collectives._wait_for_ranks(store, rank, ranks)

    monkeypatch.setattr(log, "info", join_the_others)
    collectives._wait_for_ranks(store, 0, ranks)
    assert said == [line]
