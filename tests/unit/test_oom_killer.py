"""Who was killed for lack of memory, by the kernel's log and counts (its own: tests/programs)."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from kit.cluster.oom_killer import OomKiller

if TYPE_CHECKING:
    from pathlib import Path

KILLED = "killed by the kernel for lack of memory"
ALL = "pid:[4026531836]"
OTHERS = (
    "4,7,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/x,task_memcg=/x,task=python,pid=40\n"
)
LINE = (
    "3,8,1,-;Memory cgroup out of memory: Killed process 41 (train-0.0/0) total-vm:309536kB, "
    "anon-rss:97656kB, file-rss:6620kB, shmem-rss:0kB, UID:0 pgtables:252kB oom_score_adj:0\n"
)


@dataclass
class Ended:
    """A process that has ended."""

    pid: int
    code: int | None = -signal.SIGKILL

    def poll(self) -> int | None:
        return self.code


@dataclass
class Machine:
    """A machine as its files show it."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def killer(self) -> OomKiller:
        return OomKiller(self.root / "proc", self.root / "cgroup", self.root / "kmsg")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.write("proc/vmstat", "pgfault 1\noom_kill 3\n")
    made.write("proc/self/cgroup", "0::/unit/inner\n")
    return made


@pytest.mark.parametrize(
    ("groups", "counter"),
    [
        ("0::/unit/inner", "unit/inner/memory.events.local"),
        ("0::/unit/inner", "unit/memory.events.local"),  # the inner one has no memory controller
        ("0::/unit/inner", "unit/inner/memory.events"),  # before Linux 5.2
        ("0::/", "memory.events.local"),  # of a container
        ("5:cpu:/x\n4:memory:/unit\n0::/", "memory/unit/memory.oom_control"),
        ("4:memory:/docker/7f", "memory/memory.oom_control"),  # of a container
    ],
)
def test_a_kill_that_the_own_group_counts_is_certain(
    machine: Machine, groups: str, counter: str
) -> None:
    machine.write("proc/self/cgroup", f"{groups}\n")
    machine.write(f"cgroup/{counter}", "low 0\noom_kill 1\noom_group_kill 0\n")
    killer, rank = machine.killer(), {"rank 1": Ended(41)}
    assert killer.first_killed(rank) is None  # by whom else
    machine.write(f"cgroup/{counter}", "low 0\noom_kill 2\noom_group_kill 0\n")
    assert killer.first_killed({"rank 1": Ended(41, 1)}) is None
    found = killer.first_killed({"rank 0": Ended(40, None), **rank})
    assert found is not None
    assert (found.who, found.how, found.certain) == ("rank 1", KILLED, True)
    assert found.evidence == f"oom_kill in {machine.root / 'cgroup' / counter} rose from 1 to 2"
    assert killer.first_killed({"another": Ended(42)}) is None  # that was the one


@pytest.mark.parametrize("outermost", [False, True])
def test_a_kill_that_only_the_machine_counts_is_a_suspicion(
    machine: Machine, outermost: bool
) -> None:
    if outermost:  # of version 1, where all processes are that nobody moved
        machine.write("proc/self/cgroup", "4:memory:/\n")
        machine.write("cgroup/memory/memory.oom_control", "oom_kill 3\n")
        machine.write("cgroup/memory/release_agent", "\n")
    killer = machine.killer()
    machine.write("proc/vmstat", "pgfault 1\noom_kill 4\n")
    found = killer.first_killed({"rank 0": Ended(40), "rank 1": Ended(41)})
    assert found is not None
    assert (found.who, found.certain) == ("rank 0 or rank 1", False)
    what = "rose from 3 to 4, for some process of this machine"
    assert found.text == f"perhaps {KILLED}; oom_kill in {machine.root}/proc/vmstat {what}"


def test_the_kernels_log_names_the_process_and_its_memory(machine: Machine) -> None:
    machine.write("cgroup/unit/memory.max", "100000000\n")
    machine.write("cgroup/unit/memory.events.local", "oom_kill 0\n")
    (machine.root / "proc/self/ns").mkdir()
    (machine.root / "proc/self/ns/pid").symlink_to(ALL)
    machine.write("kmsg", LINE)  # of an earlier process with this id
    killer = machine.killer()
    ranks = {"rank 0": Ended(40), "rank 1": Ended(41)}
    assert killer.first_killed(ranks) is None
    with (machine.root / "kmsg").open("a") as log:
        log.write(OTHERS + LINE)
    found = killer.first_killed(ranks)
    assert found is not None
    limit = f"100 MB is the limit of {machine.root}/cgroup/unit"
    assert (found.who, found.certain) == ("rank 1", True)
    assert found.text == f"{KILLED}; the kernel's log: process 41 had 100 MB; {limit}"
    killer.close()


def test_the_log_of_a_machine_says_nothing_of_the_ids_in_a_container(machine: Machine) -> None:
    (machine.root / "proc/self/ns").mkdir()
    (machine.root / "proc/self/ns/pid").symlink_to("pid:[4026532201]")
    machine.write("kmsg", "")
    killer = machine.killer()
    machine.write("kmsg", LINE)
    assert killer.first_killed({"rank 1": Ended(41)}) is None


def test_a_kill_of_long_ago_is_none_of_now(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer, rank = machine.killer(), {"rank 0": Ended(40)}
    machine.write("proc/vmstat", "oom_kill 4\n")
    monkeypatch.setattr("kit.cluster.oom_killer._KEPT", -1.0)  # each look is due
    killer._due = 0.0
    killer.look()
    assert killer._earlier == 3
    killer.look()
    assert killer.first_killed(rank) is None


def test_a_kernel_that_tells_nothing_is_no_evidence(tmp_path: Path) -> None:
    killer = Machine(tmp_path).killer()
    assert killer.first_killed({"rank 0": Ended(40)}) is None
