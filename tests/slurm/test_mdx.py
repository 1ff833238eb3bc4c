"""The scripts of sbatch/mdx on fresh Debians: a controller and two nodes in namespaces of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay import ROOT, wait_until
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long
# Names of their own: the cgroups of a node's jobs are those of its name, and are not in a namespace.
MACHINES = {"barehead": "10.77.0.10", "bare1": "10.77.0.11", "bare2": "10.77.0.12"}
PACKAGES = "munge slurmctld slurmdbd slurm-client mariadb-server slurmd"
SITE = """
CLUSTER=bare
CONTROLLER=barehead=10.77.0.10
NODES="bare1=10.77.0.11 bare2=10.77.0.12"
CPUS=2
MEMORY_MB=2000
GPUS=8
GPU_TYPE=a100
CPU_CPUS=1
MAX_TIME=1-00:00:00
GRACE=5
KILLWAIT=5
"""
# What a package leaves behind when it is purged, and what the test itself makes.
LEFT = re.compile(
    r"/(var/(cache|log|lib/(dpkg|apt|systemd|pam|ucf|polkit-1))|root|tmp|home|usr/share/mime|opt|dev|proc|run|var/mail"
    r"|etc/(passwd|group|shadow|gshadow|subuid|subgid|ld\.so\.cache|\.pwd\.lock|mailcap))"
)
JOB = """#!/bin/bash
echo "gpus=$CUDA_VISIBLE_DEVICES"
for gpu in 0 1 2 3 4 5 6; do (: < /dev/nvidia$gpu) 2>&1 | sed 's/.*nvidia/nvidia/'; done
sleep 300  # in the batch shell: a step that dies of the first SIGTERM would end the job
"""


@dataclass(frozen=True)
class Machines:
    """Machines in namespaces; `init` is the process that all of them end with."""

    folder: Path
    init: int

    def run(self, name: str, *command: str, code: int = 0, stdin: str = "") -> str:
        """Run a command as root of a machine; returns all that it prints."""
        inner = (self.folder / f"{name}.number").read_text().strip()
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"]
        into = ["nsenter", "-t", str(self.init), "-m", "-p", "-i"]
        machine = [
            "nsenter",
            "-t",
            inner,
            "-n",
            "-u",
            "chroot",
            str(self.folder / "root" / name / "root"),
        ]
        done = subprocess.run(
            [*into, *machine, *clean, *command],
            input=stdin, capture_output=True, text=True, check=False, timeout=patience(300),
        )  # fmt: skip
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def script(self, name: str, script: str, *arguments: str, code: int = 0) -> str:
        return self.run(name, f"/opt/sbatch/mdx/{script}.sh", *arguments, code=code)

    def as_user(self, command: str) -> str:
        return self.run(
            "barehead", "runuser", "-u", "taro", "--", "bash", "-c", f"cd /tmp; {command}"
        )

    def files(self, name: str) -> set[str]:
        found = self.run(name, "find", "/", "-xdev").splitlines()
        return {path for path in found if not LEFT.match(path)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh Debian 12 with the packages in its cache, as the machines have no network.

    EKIDEN_TEST_DEBIAN names one that was made before.
    """
    if made := os.environ.get("EKIDEN_TEST_DEBIAN"):
        return Path(made)
    if shutil.which("debootstrap") is None:
        pytest.skip("no debootstrap here: apt-get install -y --no-install-recommends debootstrap")
    folder = tmp_path_factory.mktemp("debian")
    mirror = "http://deb.debian.org/debian"
    subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(folder), mirror],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")
    fetch = f"apt-get -qq update && apt-get -qq install --download-only --no-install-recommends {PACKAGES}"
    subprocess.run(["chroot", str(folder), "bash", "-c", fetch], check=True)
    return folder


@pytest.fixture(scope="module")
def machines(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    (folder / "root").mkdir()
    words = [f"{name}={address}" for name, address in MACHINES.items()]
    namespaces = ["--mount", "--ipc", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
    script = str(ROOT / "tests" / "slurm" / "machines.sh")
    with subprocess.Popen(
        ["unshare", *namespaces, script, str(base), str(folder / "root"), str(ROOT / "sbatch"), *words],
        stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            (init,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
            made = Machines(folder, int(init))
            for name in MACHINES:
                number = Path(f"/proc/{init}/root{folder}/root/{name}.pid").read_text()
                (folder / f"{name}.number").write_text(number)
                made.run(name, "tee", "/root/site.conf", "/etc/hosts.site", stdin=SITE)
                made.run(name, "tee", "/etc/hosts", stdin="127.0.0.1 localhost\n")
                made.run(name, "useradd", "--create-home", "--uid", "1500", "taro")
            yield made
        finally:
            holder.send_signal(signal.SIGKILL)
    for group in Path("/sys/fs/cgroup").glob("*/slurm_bare*"):
        for path, _, _ in os.walk(group, topdown=False):
            Path(path).rmdir()


@pytest.fixture(scope="module")
def fresh(machines: Machines) -> dict[str, set[str]]:
    """The files of each machine before anything was done."""
    return {name: machines.files(name) for name in MACHINES}


@pytest.fixture(scope="module")
def cluster(machines: Machines, fresh: dict[str, set[str]]) -> Machines:
    """The machines as a Slurm."""
    machines.script("barehead", "controller", "/root/site.conf")
    key = machines.run("barehead", "base64", "/etc/munge/munge.key")
    for name in ("bare1", "bare2"):
        machines.run(name, "bash", "-c", "umask 077; base64 -d > /root/munge.key", stdin=key)
        machines.script(name, "node", "/root/site.conf", "/root/munge.key")
    wait_until(lambda: idle(machines) == 2, "two idle nodes", 60)
    return machines


def idle(machines: Machines) -> int:
    states = machines.run("barehead", "sinfo", "--noheader", "-N", "-p", "gpu", "-o", "%T")
    return states.split().count("idle")


def test_a_machine_without_what_it_needs_is_refused_with_the_reason(
    machines: Machines, fresh: dict[str, set[str]]
) -> None:
    said = machines.script("bare1", "controller", "/root/site.conf", code=2)
    assert (
        said == "controller.sh: this is bare1, and the controller of /root/site.conf is barehead\n"
    )
    said = machines.script("bare1", "node", "/root/site.conf", code=2)
    assert "name a copy of the controller's /etc/munge/munge.key" in said
    said = machines.script("barehead", "node", "/root/site.conf", code=2)
    assert "this is barehead, and /root/site.conf has no such node in NODES" in said
    machines.run("bare1", "bash", "-c", "sed 's/^GPUS=8/GPUS=9/' /root/site.conf > /root/nine.conf")
    said = machines.script("bare1", "node", "/root/nine.conf", code=2)
    assert "no /dev/nvidia8: install the driver first" in said
    assert machines.script("bare1", "uninstall") == "nothing to remove\n"
    assert machines.files("bare1") == fresh["bare1"]


def test_running_the_scripts_again_changes_nothing(cluster: Machines) -> None:
    for name, script in {"barehead": "controller", "bare1": "node", "bare2": "node"}.items():
        said = cluster.script(name, script, "/root/site.conf")
        assert f"{script} {name}: nothing to change\n" in said
        assert len(said.splitlines()) == (2 if script == "controller" else 1)


def test_a_changed_site_reaches_a_running_slurm(cluster: Machines) -> None:
    for name, script in {"barehead": "controller", "bare1": "node", "bare2": "node"}.items():
        cluster.run(name, "sed", "-i", "s/^GRACE=.*/GRACE=6/", "/root/site.conf")
        assert "written: /etc/slurm/slurm.conf" in cluster.script(name, script, "/root/site.conf")
    wait_until(lambda: idle(cluster) == 2, "two idle nodes", 60)
    shown = cluster.run("barehead", "scontrol", "show", "partition", "gpu")
    assert re.search(r"GraceTime=(00:00:0)?6\b", shown), shown


def test_a_job_has_its_own_gpus_and_a_higher_one_preempts_it(cluster: Machines) -> None:
    left_over = "setsid runuser -u taro -- sleep 1111 < /dev/nvidia7 > /dev/null 2>&1 &"
    of_system = "setsid sleep 2222 < /dev/nvidia7 > /dev/null 2>&1 &"
    cluster.run("bare1", "bash", "-c", f"{left_over} {of_system}")
    cluster.run("barehead", "tee", "/tmp/job.sh", stdin=JOB)
    options = (
        "--parsable --nodelist=bare1 --nodes=1 --time=10 --open-mode=append --output=/tmp/%j.txt"
    )
    low = cluster.as_user(f"sbatch {options} --partition=gpu --gpus-per-node=2 job.sh").strip()

    def printed(job: str) -> list[str]:
        return cluster.run("bare1", "bash", "-c", f"cat /tmp/{job}.txt || true").splitlines()

    wait_until(lambda: "nvidia6: Operation not permitted" in printed(low), "the first job", 60)
    allowed, denied = "No such device or address", "Operation not permitted"  # no driver; no right
    expected = [f"nvidia{gpu}: {allowed if gpu < 2 else denied}" for gpu in range(7)]
    assert printed(low)[:8] == ["gpus=0,1", *expected]
    assert "sleep 1111" in cluster.run(
        "bare1", "bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    )

    high = cluster.as_user(
        f"sbatch {options} --partition=urgent --gpus-per-node=8 --wrap 'echo here; sleep 1'"
    ).strip()
    wait_until(lambda: printed(high) == ["here"], "the job that preempts", 120)
    running = cluster.run("bare1", "bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 1111" not in running
    assert "sleep 2222" in running

    def requeued() -> bool:
        shown = cluster.run("barehead", "scontrol", "show", "job", "-o", low)
        return bool(re.search(r"JobState=(PENDING|RUNNING) .*Restarts=1", shown))

    wait_until(requeued, "the requeue of the first job", 60)

    def recorded() -> str:
        return cluster.run("barehead", "sacct", "-D", "-X", "-n", "-P", "-j", low, "-o", "State")

    wait_until(lambda: "PREEMPTED" in recorded(), "its record in the accounting", 60)
    cluster.as_user(f"scancel {low}")


def test_a_step_over_two_nodes_reaches_both(cluster: Machines) -> None:
    said = cluster.as_user("srun --partition=gpu --nodes=2 --gpus-per-node=1 --time=1 hostname")
    printed = [line for line in said.splitlines() if not line.startswith("srun: ")]
    assert sorted(printed) == ["bare1", "bare2"]


def test_a_file_of_somebody_else_is_never_replaced(machines: Machines, cluster: Machines) -> None:
    cluster.run(
        "bare2", "sed", "-i", r"\#^file /etc/slurm/gres.conf$#d", "/var/lib/ekiden-slurm/installed"
    )
    said = cluster.script("bare2", "node", "/root/site.conf", code=2)
    assert "/etc/slurm/gres.conf exists, and is not of these scripts" in said
    cluster.run(
        "bare2", "bash", "-c", "echo file /etc/slurm/gres.conf >> /var/lib/ekiden-slurm/installed"
    )


def test_lustre_is_set_up_from_what_the_images_of_mdx_bring(cluster: Machines) -> None:
    said = cluster.script("barehead", "lustre", "10.77.0.10", code=2)
    assert "no /etc/lnet.conf.ddn.j2: this image has no Lustre of mdx" in said
    template = "ip2nets: {{ tcp_netif }} {{ tcp_src_ipaddr }} {{ib_netif}} {{ ib_src_ipaddr }}\n"
    cluster.run("barehead", "tee", "/etc/lnet.conf.ddn.j2", stdin=template)
    mounts = "/dev/vda / ext4\n#172.17.8.40@o2ib:/fast /fast lustre _netdev\n# a remark\n"
    cluster.run("barehead", "tee", "/etc/fstab", stdin=mounts)
    said = cluster.script("barehead", "lustre", "10.77.0.99", code=2)
    assert "10.77.0.99 is not an address of this machine" in said
    assert "reboot to mount it" in cluster.script("barehead", "lustre", "10.77.0.10")
    written = cluster.run("barehead", "cat", "/etc/lnet.conf.ddn")
    assert written == "ip2nets: eth0 10.77.0.10 eth0 10.77.0.10\n"
    assert cluster.run("barehead", "cat", "/etc/fstab") == mounts.replace("#172", "172")
    assert "lustre: nothing to change" in cluster.script("barehead", "lustre", "10.77.0.10")
    cluster.run("barehead", "rm", "/etc/lnet.conf.ddn.j2")


def test_uninstall_leaves_nothing(cluster: Machines, fresh: dict[str, set[str]]) -> None:
    cluster.as_user(
        "sbatch --partition=gpu --nodelist=bare2 --gpus=1 --output=/dev/null --wrap 'sleep 300'"
    )
    steps = ("bash", "-c", "pidof -c slurmstepd || true")
    wait_until(lambda: bool(cluster.run("bare2", *steps).strip()), "a job on bare2", 60)
    said = cluster.script("bare2", "uninstall", code=2)
    assert "jobs are running here; drain the node first, or add --with-jobs" in said
    for name in ("bare1", "bare2", "barehead"):
        assert cluster.script(name, "uninstall", "--with-jobs").endswith("removed\n")
        assert cluster.files(name) == fresh[name]
        assert cluster.run(name, "cat", "/etc/hosts") == "127.0.0.1 localhost\n"
        assert "\n172.17.8." not in cluster.run(name, "bash", "-c", "cat /etc/fstab || true")
        assert not cluster.run(
            name, "bash", "-c", "dpkg -l | grep -iE 'slurm|munge|mariadb' || true"
        )
        assert cluster.script(name, "uninstall") == "nothing to remove\n"
