"""What administrators do to a run, and users who are not root, on a real Slurm: the run goes on.

Each is a row of the table of sites in docs/slurm.md.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import decisions
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from tests.relay import DEMO, ROOT, TINY, command, copy_of, log_of, wait_for_step, wait_until

from .conftest import running
from .trial import ALONE, CLUSTER, PATIENCE, WHOLE, submit, wait_for_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(1800)]

ENDLESS = (
    *TINY, ALONE,
    "training.checkpoint_every=50", "training.validate_every=100000", "training.steps=1000000",
    "training.save_pause=1",
)  # fmt: skip
USER = "games"  # a user of Debian's who is not root and may log in nowhere
PATH = "駅伝 の 部屋"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """A workspace whose tokens are made."""
    return copy_of(tokens, tmp_path_factory.mktemp("sites") / PATH)


@pytest.fixture(autouse=True)
def empty_queue(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test of the shared cluster leaves no job behind."""
    yield
    if "slurm" in request.fixturenames:
        slurm: Slurm = request.getfixturevalue("slurm")
        slurm.repair()
        wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), "empty queue", PATIENCE)


def begin(workspace: Path, name: str, *more: str) -> tuple[Run, str]:
    """A run without end that has made its first steps, and its job."""
    run, jobs = submit(workspace, f"name={name}", *ENDLESS, *more, job="train")
    wait_for_attempt(run, 1)
    return run, jobs["train"]


def last_step(run: Run) -> int:
    return max((row["step"] for row in ledger.canonical(run)), default=0)


def goes_on(slurm: Slurm, run: Run, job: str, attempt: int = 2) -> None:
    """The job has been requeued once more, and its next attempt begins where the one before has saved."""
    slurm.wait(job, lambda fields: int(fields["Restarts"]) >= attempt - 1, timeout=PATIENCE)
    slurm.start_now(job)
    wait_for_attempt(run, attempt)
    saved = read_json(run.attempt(attempt - 1).end)["saved"]
    assert read_json(run.attempt(attempt).start)["from_step"] == saved > 0


def reasons(run: Run) -> list[str]:
    return [row["reason"] for row in decisions.read(run)]


def test_a_suspended_job_is_resumed_where_it_was(slurm: Slurm, workspace: Path) -> None:
    hang = 5.0
    run, job = begin(workspace, "suspended", f"training.health.hang_seconds={hang}")
    slurm.run("scontrol", "suspend", job)
    slurm.wait(job, "SUSPENDED")
    time.sleep(3.0)  # SIGTSTP comes first, SIGSTOP two seconds later
    before = last_step(run)
    time.sleep(3 * hang)
    assert last_step(run) == before
    slurm.run("scontrol", "resume", job)
    wait_for_step(run, before + 20)
    assert len(ledger.attempts(run)) == 1
    assert not run.attempt(1).hang.exists()
    assert "has not ended after" not in log_of(run, "train")


def test_a_limit_that_is_extended_is_learned_before_its_old_end(
    slurm: Slurm, workspace: Path
) -> None:
    short = ("cluster.training.minutes=3", "cluster.training.warning_seconds=40")
    run, job = begin(workspace, "extended", *short)
    end = state_time(slurm.job(job)["EndTime"])
    assert time.time() < end - 60.0
    slurm.run("scontrol", "update", f"jobid={job}", "timelimit=60")
    wait_until(lambda: time.time() > end + 5.0, "old end", PATIENCE)
    before = last_step(run)
    wait_for_step(run, before + 10)
    assert len(ledger.attempts(run)) == 1
    assert log_of(run, "train").count("the time limit was changed: this attempt now ends at") == 1


def state_time(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def test_a_run_that_is_held_goes_on_when_it_is_released(slurm: Slurm, workspace: Path) -> None:
    run, job = begin(workspace, "held")
    slurm.run("scontrol", "requeuehold", job)
    slurm.wait(
        job,
        lambda fields: fields["JobState"] == "PENDING" and "held" in fields["Reason"].lower(),
        timeout=PATIENCE,
    )
    slurm.run("scontrol", "release", job)
    goes_on(slurm, run, job)


def test_a_drained_node_lets_a_run_end_its_attempt_and_takes_it_back_later(
    slurm: Slurm, workspace: Path
) -> None:
    run, job = begin(workspace, "drained")
    slurm.run("scontrol", "update", "nodename=mdx[1-2]", "state=drain", "reason=trial")
    before = last_step(run)
    wait_for_step(run, before + 10)  # a drain ends nothing
    slurm.run("scontrol", "requeue", job)
    slurm.wait(job, lambda fields: fields["JobState"] == "PENDING", timeout=PATIENCE)
    slurm.run("scontrol", "update", "nodename=mdx[1-2]", "state=resume")
    goes_on(slurm, run, job)


def test_a_maintenance_reservation_that_begins_delays_the_next_attempt_only(
    slurm: Slurm, workspace: Path
) -> None:
    run, job = begin(workspace, "maintained")
    flags = ("flags=maint,ignore_jobs", "nodes=ALL", "users=root")
    window = ("reservationname=trial", "starttime=now", "duration=120")
    slurm.run("scontrol", "create", "reservation", *window, *flags)
    try:
        before = last_step(run)
        wait_for_step(run, before + 10)
        slurm.run("scontrol", "requeue", job)
        slurm.start_now(job)
        slurm.wait(job, lambda fields: "ReqNodeNotAvail" in fields["Reason"], timeout=PATIENCE)
        assert len(ledger.attempts(run)) == 1
    finally:
        slurm.run("scontrol", "delete", "reservationname=trial")
    goes_on(slurm, run, job)


def test_without_slurmdbd_a_preempted_run_goes_on_and_has_a_status(
    slurm: Slurm, workspace: Path
) -> None:
    run, job = begin(workspace, "unaccounted")
    slurm.kill("slurmdbd")
    preempt(slurm)
    goes_on(slurm, run, job)
    assert reasons(run) == ["preemption"]
    assert "running" in command("train", "status", str(run.root))


def preempt(slurm: Slurm) -> None:
    high = slurm.submit("sleep 600", "--partition=high", *WHOLE)
    slurm.wait(high, "RUNNING", timeout=PATIENCE)
    slurm.run("scancel", high)


def test_without_accounting_a_preempted_run_goes_on_and_has_a_status(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_SLURM_DBD", "0")
    with running() as slurm:
        assert not slurm.accounting
        run, job = begin(workspace, "without-accounting")
        preempt(slurm)
        goes_on(slurm, run, job)
        assert reasons(run) == ["preemption"]
        assert "running" in command("train", "status", str(run.root))
        slurm.run("scancel", job)


def can_run_python() -> bool:
    try:
        done = subprocess.run([sys.executable, "-c", ""], user=USER, group=USER, check=False)
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.fixture
def home(tokens: Path) -> Iterator[Path]:
    """A folder of a user who is not root, with a workspace whose tokens are made."""
    if not can_run_python():
        pytest.skip(f"{sys.executable} is closed to other users")
    folder = Path(tempfile.mkdtemp(prefix="ekiden-sites-", dir="/tmp"))
    copy_of(tokens, folder / PATH)
    entry = pwd.getpwnam(USER)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder)


def as_user(home: Path, umask: int, *arguments: str) -> str:
    """A command of the user, as `tests.relay.command`."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        user=USER, group=USER, extra_groups=[], umask=umask, cwd=ROOT, text=True,
        env=os.environ | {"HOME": str(home), "USER": USER, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_a_user_without_root_keeps_the_umask_on_a_path_in_japanese(
    slurm: Slurm, home: Path, umask: int
) -> None:
    where = (str(DEMO), f"workspace={home / PATH}", "--cluster", CLUSTER)
    as_user(home, umask, "jobs.train", "submit", *where, *ENDLESS, "name=user")
    run = Workspace(home / PATH).run("user")
    job = read_json(run.jobs)["slurm"]["train"]
    wait_for_attempt(run, 1)
    preempt(slurm)
    goes_on(slurm, run, job)
    assert reasons(run) == ["preemption"]
    assert "running" in as_user(home, umask, "jobs.train", "status", str(run.root))
    made = [path for path in run.root.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_uid for path in made} == {pwd.getpwnam(USER).pw_uid}
    allowed = 0o777 & ~umask
    assert not [path for path in made if path.stat().st_mode & 0o777 & ~allowed]
    if umask == 0o002:  # a group that shares a workspace can remove what its members made
        assert not [path for path in made if path.is_dir() and not path.stat().st_mode & 0o020]
    as_user(home, umask, "jobs.train", "cancel", str(run.root))
