"""A real Slurm on this machine for the tests: the fixture `slurm`.

It is brought up once a test run by sbatch/slurm/up.sh, in a directory and on ports of its own, and
taken down at the end. Without Slurm installed its tests are skipped; with CI=true they fail.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay import SHORT, wait_for_step, wait_until
from tests.speed import patience
from tests.warm import light as command

from .trial import PATIENCE, WHOLE, is_on_a_node, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.store.paths import Run

SCRIPTS = Path(__file__).parents[2] / "sbatch" / "slurm"
PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd mariadb-server"
# Short, as the tests wait for them: a preempted job has 10 s to save (Slurm adds up to 10 s); what
# ignores SIGTERM is killed another 10 s later; 5 s is the shortest way back into the queue.
KNOBS = {
    "EKIDEN_SLURM_GRACE": f"{patience(10):.0f}",
    "EKIDEN_SLURM_KILLWAIT": f"{patience(10):.0f}",
    "EKIDEN_SLURM_CRED_EXPIRE": f"{patience(5):.0f}",
}

# The status of the training while it waits after its preemption, and what `watch` shows.
WAITING, WATCHED = "waiting.json", "watched.json"

Fields = dict[str, str]


@dataclass(frozen=True)
class Slurm:
    """A running cluster: nodes mdx1, mdx2 of eight fake GPUs; partition high preempts low."""

    root: Path
    accounting: bool
    environment: dict[str, str]  # of up.sh and down.sh

    def run(self, *argv: str) -> str:
        """Standard output of a Slurm command: run("sinfo", "--noheader")."""
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=patience(60), check=False
        )
        if done.returncode == -signal.SIGPIPE and argv[0] in ("scontrol", "sacct", "sinfo"):
            # A client whose connection a busy slurmctld drops dies of SIGPIPE: asking again is safe.
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=patience(60), check=False
            )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
        return done.stdout

    def submit(self, body: str, *options: str) -> str:
        """Submit a bash script with sbatch's options and return the job id."""
        script = self.root / "jobs" / f"{time.monotonic_ns()}.sbatch"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/bash\n{body}\n")
        ours = ("--parsable", "--open-mode=append", f"--output={self.root}/jobs/%j.out")
        return self.run("sbatch", *ours, *options, str(script)).strip()

    def output(self, jobid: str) -> str:
        """What the job, over all its attempts, has printed until now."""
        log = self.root / "jobs" / f"{jobid}.out"
        return log.read_text() if log.exists() else ""

    def job(self, jobid: str) -> Fields:
        """The fields of `scontrol show job`; for one element of an array give ARRAYID_INDEX."""
        line = self.run("scontrol", "show", "job", "--oneliner", jobid).splitlines()[0]
        return {key: value.strip() for key, value in re.findall(r"(\S+?)=(.*?)(?= \S+?=|$)", line)}

    def wait(
        self, jobid: str, until: str | Callable[[Fields], bool], timeout: float = 60
    ) -> Fields:
        """Wait for a JobState, or for a predicate of the job's fields, and return the fields."""
        reached = (lambda job: job["JobState"] == until) if isinstance(until, str) else until
        end = time.monotonic() + patience(timeout)
        while not reached(job := self.job(jobid)):
            if time.monotonic() > end:
                raise TimeoutError(f"job {jobid} after {timeout} s: {job}\n{self.output(jobid)}")
            time.sleep(0.2)
        return job

    def attempts(self, jobid: str, timeout: float = 30) -> list[str]:
        """The state of every attempt in the accounting, the present one last."""
        end = time.monotonic() + patience(timeout)
        while True:
            rows = self.run("sacct", "-DXnP", "-j", jobid, "-o", "State").splitlines()
            states = [row.split()[0] for row in rows]  # "CANCELLED by 0"
            state = self.job(jobid)["JobState"]
            if states[-1:] == [state]:  # slurmdbd learns of a change some seconds after it
                return states
            if time.monotonic() > end:
                raise TimeoutError(f"job {jobid} is {state}, sacct says {states} for {timeout} s")
            time.sleep(0.2)

    def kill(self, daemon: str, number: int = signal.SIGKILL) -> None:
        """End one of the cluster's daemons, `slurmctld` or `slurmd.mdx1`, and wait until it is gone."""
        pid = int((self.root / "pid" / f"{daemon}.pid").read_text())
        os.kill(pid, number)
        while (Path("/proc") / str(pid)).exists() and _state(pid) != "Z":
            time.sleep(0.1)

    def repair(self) -> None:
        """End all jobs, take nodes into service that were set down, start the daemons that are gone."""
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, check=False)
        if ping.returncode == 0:
            self.run("scancel", f"--user={os.geteuid()}")
            for node in ("mdx1", "mdx2"):
                if re.search(
                    r" State=\S*(DOWN|DRAIN)", self.run("scontrol", "show", "node", "-o", node)
                ):
                    self.run("scontrol", "update", f"nodename={node}", "state=resume")
        self.up()
        self.run("scancel", f"--user={os.geteuid()}")

    def up(self) -> None:
        """Start what is missing of the cluster."""
        up = subprocess.run(
            [SCRIPTS / "up.sh"], env=self.environment, capture_output=True, text=True, check=False
        )
        if up.returncode:
            pytest.fail(f"{up.stdout}{up.stderr}")

    def start_now(self, jobid: str, *, beside_older: bool = False) -> None:
        """Make a requeued job eligible now instead of after cred_expire.

        Before that its older start has left its node, unless `beside_older`: on the same node it would take
        the cgroup of the new one with it, and so kill its processes.
        """
        # Not while the job is COMPLETING: its end would overwrite the time. Not in the second of
        # its end: the node would refuse it ("already killed"), and it would be FAILED.
        self.wait(jobid, "PENDING")
        if not beside_older:
            self.run("scontrol", "update", f"jobid={jobid}", "starttime=now+3600")
            wait_until(
                lambda: not is_on_a_node(jobid), f"end of the old start of {jobid}", PATIENCE
            )
        self.run("scontrol", "update", f"jobid={jobid}", "starttime=now+2")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with running() as cluster:
        yield cluster


@contextmanager
def running() -> Iterator[Slurm]:
    """A cluster for as long as the block lasts, in the environment of this process."""
    # not pytest's tmp_path: a socket's path has at most 107 characters
    root = Path(tempfile.mkdtemp(prefix="es-", dir="/tmp"))
    place = {"EKIDEN_SLURM_ROOT": str(root), "EKIDEN_SLURM_PORT": str(_free_ports())}
    environment = os.environ | KNOBS | place
    with pytest.MonkeyPatch.context() as patch:
        try:
            accounting = environment.get("EKIDEN_SLURM_DBD", "1") == "1"
            cluster = Slurm(root, accounting, environment)
            cluster.up()
            patch.setenv("SLURM_CONF", str(root / "etc" / "slurm.conf"))
            if not accounting:
                patch.setenv("PATH", str(root / "bin"), prepend=os.pathsep)
            yield cluster
        finally:
            subprocess.run(
                [SCRIPTS / "down.sh", "--wipe"], env=environment, check=True, stdout=sys.stderr
            )


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="session")
def preempted(slurm: Slurm, workspace: Path) -> tuple[Run, dict[str, str]]:
    """The whole relay, its training preempted by a job of a higher partition."""
    run, jobs = submit(workspace, *SHORT, "tracking.mlflow=null")
    wait_for_step(run, 20)
    high = slurm.submit("sleep 600", "--partition=high", *WHOLE)
    slurm.wait(high, "RUNNING", timeout=PATIENCE)
    (workspace / WAITING).write_text(command("train", "status", str(run.root), "--json"))
    (workspace / WATCHED).write_text(command("watch", str(run.root), "--json"))
    slurm.run("scancel", high)
    slurm.wait(jobs["generate"], "COMPLETED", timeout=PATIENCE)
    return run, jobs


def _state(pid: int) -> str:
    """The state of a process; Z where its end has not been noticed yet."""
    stat = (Path("/proc") / str(pid) / "stat").read_text()
    return stat.rsplit(") ", 1)[1][0]


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    if shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        return f"no Slurm here: apt-get install -y --no-install-recommends {PACKAGES}"
    return None if os.geteuid() == 0 else "starting Slurm needs root"


def _free_ports(count: int = 13) -> int:
    """The first of a row of free ports, by chance, as several runs of the tests may look at one time."""
    while True:
        first = random.randrange(20000, 30000, count)  # below the ports that Linux gives to clients
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
