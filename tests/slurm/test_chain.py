"""A chain submitted again while parts of it are queued, on a real Slurm: no job of it ever starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import accounting, state
from kit.relay.stages import STAGES
from kit.store.files import read_json
from kit.store.paths import Workspace
from tests import warm
from tests.relay import DEMO, FP32, ROOT, wait_until
from tests.slurm.trial import CLUSTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

LATER = "cluster.sbatch.begin=now+36000"
OFF = ("fingerprint", "deduplicate", "signatures", "bands", "clusters")  # unless the recipe asks
ALL = [s.name for s in STAGES if s.name not in OFF]


class Chain:
    """The chain of the demo in a workspace of its own."""

    def __init__(self, slurm: Slurm, workspace: Path) -> None:
        self.slurm, self.run = slurm, Workspace(workspace).run("demo")
        self.arguments = (str(DEMO), f"workspace={workspace}", FP32, LATER, "--cluster", CLUSTER)

    def submit(self, *more: str, job: str = "pipeline", code: int = 0) -> str:
        return warm.command(job, "submit", *self.arguments, *more, code=code)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            warm.command("pipeline", "status", *self.arguments, "--json")
        )
        return found

    def ids(self) -> dict[str, str]:
        ids: dict[str, str] = read_json(self.run.jobs)["slurm"]
        return ids

    def queued(self) -> dict[str, str]:
        """The jobs of this user in the queue: what each waits for, by id."""
        lines = self.slurm.run("squeue", "--me", "--noheader", "--format=%F|%E").splitlines()
        return dict(line.split("|") for line in lines)


@pytest.fixture
def chain(slurm: Slurm, tmp_path: Path) -> Iterator[Chain]:
    yield Chain(slurm, tmp_path)
    slurm.run("scancel", f"--user={os.geteuid()}")


def test_what_is_missing_is_sent_behind_what_is_queued_and_nothing_twice(chain: Chain) -> None:
    chain.submit("--until", "tokenize")
    first = chain.ids()
    assert [*first] == sorted(ALL[: ALL.index("tokenize") + 1])

    said = chain.submit("--until", "tokenize")
    assert said.startswith("nothing to submit: download")
    assert first["tokenize"] in said
    assert chain.ids() == first

    planned = warm.command("pipeline", "submit", *chain.arguments, "--dry-run")
    assert f"#SBATCH --dependency=afterok:{first['tokenize']}\n" in planned
    assert "\ntokenize: " not in planned
    chain.submit()
    both = chain.ids()
    assert sorted(both) == sorted(ALL)
    assert first.items() <= both.items()
    waits = chain.queued()
    assert {*waits} == {*both.values()}
    assert first["tokenize"] in waits[both["train"]]
    assert both["train"] in waits[both["evaluate"]]
    assert chain.submit(job="train").startswith("nothing to submit: ")

    # What jobs in the queue read does not change under them.
    before = chain.run.recipe.read_bytes(), chain.run.code.resolve()
    said = chain.submit("training.steps=7", code=2)
    assert "reads another recipe or cluster file than yours (training.steps: " in said
    assert "cluster.single.minutes: 10 -> 9" in chain.submit("cluster.single.minutes=9", code=2)
    assert (chain.run.recipe.read_bytes(), chain.run.code.resolve()) == before
    assert {*chain.queued()} == {*both.values()}

    # A stage that is cancelled takes those behind it along, and is sent again with them.
    chain.slurm.run("scancel", both["evaluate"])
    wait_until(lambda: both["generate"] not in chain.queued(), "end of the chain behind it")
    stages = chain.status()["stages"]
    assert stages["train"]["state"] == "queued"
    assert (stages["evaluate"]["state"], stages["generate"]["state"]) == ("cancelled", "cancelled")
    assert "evaluate, before it, did not succeed" in stages["generate"]["reason"]
    chain.submit()
    mended = chain.ids()
    behind = ALL[ALL.index("evaluate") :]
    assert {name for name in ALL if mended[name] != both[name]} == {*behind}
    assert both["train"] in chain.queued()[mended["evaluate"]]


def test_two_submissions_at_once_send_one_chain(chain: Chain) -> None:
    command = [
        sys.executable,
        "-m",
        "jobs.pipeline",
        "submit",
        *chain.arguments,
        "--until",
        "count",
    ]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in both]
    assert sorted(process.returncode for process in both) in ([0, 0], [0, 2]), said
    assert {*chain.queued()} == {*chain.ids().values()}
    assert not chain.run.submitting.exists()


def test_behind_an_array_without_one_of_its_tasks_nothing_is_sent(chain: Chain) -> None:
    chain.submit("--until", "preprocess")
    job = chain.ids()["preprocess"]
    assert "ended badly" not in chain.submit("--until", "preprocess")
    chain.slurm.run("scancel", f"{job}_1")  # which leaves no trace in the queue
    assert f"{job}_1 ended badly" in chain.submit("--until", "preprocess")
    said = chain.submit("--until", "count", code=2)
    assert f"preprocess: {job}_1 ended badly, while others of job {job} are in the queue" in said
    assert {*chain.queued()} == {*chain.ids().values()}


def test_a_held_job_says_so_and_how_to_release_it(chain: Chain) -> None:
    chain.submit("--until", "download")
    job = chain.ids()["download"]
    chain.slurm.run("scontrol", "uhold", job)
    stage = chain.status()["stages"]["download"]
    assert stage["reason"] == "Slurm: JobHeldUser (held by its user)"
    assert stage["next"] == f"scontrol release {job}"


def test_a_job_that_is_left_waiting_for_a_failed_one_is_replaced(chain: Chain) -> None:
    chain.submit("cluster.sbatch.kill-on-invalid-dep=no", "--until", "count")
    first = chain.ids()
    chain.slurm.run("scancel", first["download"])
    after = first["preprocess"]
    wait_until(
        lambda: all(one.never_starts for one in state.queue([after])[after]), "Slurm's verdict"
    )
    chain.submit("cluster.sbatch.kill-on-invalid-dep=no", "--until", "count")
    second = chain.ids()
    assert not {*first.values()} & {*second.values()}
    assert {*chain.queued()} == {*second.values()}


def test_jobs_that_slurm_has_forgotten_are_no_error(slurm: Slurm, chain: Chain) -> None:
    assert state.queue(["1"], [os.getuid()]) == {}
    assert state.queue(["1", "2"]) == {}
    job = slurm.submit("true", "--hold")
    assert [*state.queue(["1", job], [os.getuid()])] == [job]
    assert [*state.queue(["1", job])] == [job]


def test_of_a_preempted_job_the_accounting_gives_the_last_end(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]]
) -> None:
    if not slurm.accounting:
        pytest.skip("no accounting")
    _, jobs = preempted
    slurm.attempts(jobs["train"])  # slurmdbd has learned of its end
    found = accounting.records([jobs["train"], jobs["count"], "1"])
    assert [one.state for one in found[jobs["train"]]] == ["COMPLETED"]
    assert {one.job.split("_")[0] for one in found[jobs["count"]]} == {jobs["count"]}


def test_an_end_that_only_the_accounting_knows_is_told(slurm: Slurm, chain: Chain) -> None:
    if not slurm.accounting:
        pytest.skip("no accounting")
    chain.submit("--until", "download")
    job = chain.ids()["download"]
    chain.slurm.run("scancel", job)
    wait_until(
        lambda: bool([one for one in accounting.records([job]).get(job, ()) if not one.alive]),
        "record of its end",
    )
    # As if squeue had forgotten it: a job that it does not show is looked up.
    from kit.cluster.snapshot import snapshot
    from kit.relay import job_status, queue_answer

    seen = snapshot(chain.run)
    asked = queue_answer.ask(seen)
    forgotten = queue_answer.QueueAnswer({}, asked.jobs, asked.time, None, asked.records)
    status = job_status.of_stage(job_status.read(seen, forgotten), "download")
    assert status is not None
    assert (status.state, status.reason) == ("cancelled", "Slurm: CANCELLED, by you")
