"""Processes that end with the supervisor that started them; what a task is sent as."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from kit.cluster import launch, local, local_task
from kit.cluster.jobs import Job
from kit.config.cluster import Cluster
from kit.corpus.dedup import fingerprint
from kit.store.files import write_text
from kit.store.paths import Run

if TYPE_CHECKING:
    from pathlib import Path

# A supervisor and its task: the task says its process id, or what it was refused with, and waits.
TASK = """
import os, sys, time
from kit.cluster import entry
from kit.errors import Interrupted
try:
    entry.end_with(int(sys.argv[1]))
except Interrupted as refused:
    print(refused, flush=True)
    sys.exit(75)
print(os.getpid(), flush=True)
time.sleep(600)
"""
SUPERVISOR = f"""
import os, subprocess, sys
task = subprocess.Popen([sys.executable, "-c", {TASK!r}, str(os.getpid())])
task.wait()
"""


def test_a_task_is_ended_with_its_supervisor() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        assert int(supervisor.stdout.readline())
        supervisor.kill()
        assert supervisor.stdout.read() == ""  # at the end of the last process that holds it
    assert supervisor.returncode == -signal.SIGKILL


def test_a_task_that_starts_after_its_supervisor_died_leaves() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    task = subprocess.run(
        [sys.executable, "-c", TASK, str(dead.pid)], capture_output=True, text=True, check=False
    )
    assert task.returncode == 75
    assert task.stdout == f"the supervisor, process {dead.pid}, has died\n"


def test_gpus_are_numbered_alike_in_all_ranks(tmp_path: Path) -> None:
    training = {"ranks_per_node": 2}
    for device, order in (("cuda", "PCI_BUS_ID"), ("cpu", None)):
        cluster = Cluster(name="mine", kind="slurm", device=device, training=training)
        assert launch.job_environment(Run(tmp_path), cluster).get("CUDA_DEVICE_ORDER") == order


def test_a_run_with_the_code_of_an_earlier_version_is_given_the_names_of_that(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "run")
    for module, text in {
        "kit/cluster/launch": "def enter(work, *arguments): print(work.__module__, *arguments)",
        "kit/corpus/fingerprint": "def work(run, task, tasks): ...",
    }.items():
        write_text(run.code / f"{module}.py", f"{text}\n")
    run.attempts.mkdir()  # from then on a run keeps its code
    local_task.announce(run, Job("fingerprint", fingerprint.work, 2))
    started = local_task.of_job(run, "fingerprint-1", 0, 1, 0)
    assert started.command[2:4] == ["-m", "submitit.core._submit"]
    unpickle = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')).result()"
    task = subprocess.run(
        [sys.executable, "-c", unpickle, started.folder / "fingerprint-1_submitted.pkl"],
        env=os.environ | {"PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert task.stdout == f"kit.corpus.fingerprint {run.root} fingerprint 1 2\n"


def test_a_local_job_is_cancelled_as_kill_does() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        local.cancel([str(process.pid)])
    assert process.returncode == -signal.SIGTERM


HEAVY = {"submitit", "pydantic", "torch", "transformers", "numpy", "mlflow"}


def test_the_exit_trap_imports_nothing_that_takes_long() -> None:
    listed = (
        "import sys; from kit.cluster import requeue, scheduler; scheduler.for_kind('slurm'); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    asked = subprocess.run(
        [sys.executable, "-c", listed], capture_output=True, text=True, check=True
    )
    assert "kit" in asked.stdout.split()
    assert not HEAVY & {*asked.stdout.split()}
