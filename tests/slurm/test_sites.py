"""Sites with another configuration: preemption by QOS, a signal of one's own, memory that is confined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import decisions
from kit.relay import resolve
from kit.store.files import read_json
from kit.store.paths import Run
from tests.end_to_end.test_micro_batch import AUTO, RECIPE
from tests.relay import DEMO
from tests.warm import light as command

from .conftest import missing, running
from .stand_in import StandIn
from .trial import CLUSTER, PATIENCE, WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def site() -> Iterator[Slurm]:
    """A Slurm whose QOS `urgent` preempts `normal`, by SIGUSR2 first."""
    if reason := missing():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKIDEN_SLURM_PREEMPT", "qos")
        patch.setenv("EKIDEN_SLURM_CTLD_PARAMS", "preempt_send_user_signal")
        with running() as cluster:
            for words in (
                "add account lab",
                "add qos urgent",
                "modify qos urgent set preempt=normal",
                "add user root account=lab qos=normal,urgent defaultqos=normal",
            ):
                cluster.run("sacctmgr", "--immediate", *words.split())
            yield cluster


def set_up(site: Slurm, mode: str, grace: str) -> None:
    words = f"modify qos normal set gracetime={grace} preemptmode={mode}"
    site.run("sacctmgr", "--immediate", *words.split())


def preempt(site: Slurm) -> None:
    site.submit("true", "--qos=urgent", *WHOLE)


@pytest.mark.parametrize("mode", ["requeue", "cancel"])
def test_a_preemption_by_qos_is_met_by_a_save_at_the_users_own_signal(
    site: Slurm, tmp_path: Path, mode: str
) -> None:
    set_up(site, mode, site.environment["EKIDEN_SLURM_GRACE"])
    trial = StandIn(site, tmp_path)
    job = trial.submit("--qos=normal")
    preempt(site)
    site.wait(job, lambda found: found["Restarts"] == "1", PATIENCE)
    site.start_now(job)
    site.wait(job, "COMPLETED", PATIENCE)
    assert trial.reasons == [(True, "preemption"), (False, "done")]
    assert read_json(trial.run.attempt(1).end)["reason"] == "SIGUSR2"


def test_a_job_that_a_preemption_by_qos_cancels_without_grace_is_requeued(
    site: Slurm, tmp_path: Path
) -> None:
    set_up(site, "cancel", "0")
    trial = StandIn(site, tmp_path, answer="stay")
    job = trial.submit("--qos=normal")
    preempt(site)
    site.wait(job, lambda found: found["Restarts"] == "1", PATIENCE)
    assert trial.reasons == [(True, "preemption")]
    site.run("scancel", job)


@pytest.mark.parametrize("mode", ["requeue", "cancel"])
def test_a_scancel_within_the_grace_time_of_a_qos_is_a_scancel(
    site: Slurm, tmp_path: Path, mode: str
) -> None:
    set_up(site, mode, site.environment["EKIDEN_SLURM_GRACE"])
    trial = StandIn(site, tmp_path, answer="stay")
    job = trial.submit("--qos=normal")
    preempt(site)
    site.wait(job, lambda found: found.get("PreemptTime", "None") != "None", PATIENCE)
    trial.say("leave")
    site.run("scancel", job)
    assert site.wait(job, "CANCELLED", PATIENCE)["Restarts"] == "0"
    assert trial.reasons == [(False, "cancelled")]


@pytest.fixture(scope="module")
def confining() -> Iterator[Slurm]:
    """A Slurm that kills what takes more memory than its job has."""
    if reason := missing():
        pytest.skip(reason)
    if not Path("/sys/fs/cgroup/memory").is_dir():
        pytest.skip("no memory cgroup of version 1 here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKIDEN_SLURM_MEMORY", "1")
        with running() as cluster:
            yield cluster


# Enough for a rank with one block of RECIPE, and not for one with thirteen. The plan does not know it.
LITTLE = "cluster.training.sbatch={mem: 400M}"


def test_a_rehearsal_that_slurm_kills_for_its_memory_steps_down_and_a_submission_takes_what_fits(
    confining: Slurm, tmp_path: Path
) -> None:
    given = [f"workspace={tmp_path}", *RECIPE, AUTO, LITTLE]
    assert resolve.load(DEMO, given, CLUSTER).recipe.training.micro_batch == 13
    rehearse = ("rehearse", str(DEMO), *given, "--steps", "10", "--synthetic", "--json")
    said = command("train", *rehearse, "--cluster", CLUSTER)
    found = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    tried = found["micro_batch"]
    assert (tried["taken"], tried["out_of_memory"]) == (1, [13]), said
    training = resolve.load(DEMO, given, CLUSTER).recipe.training
    reason = "rehearsed on one-machine: the next below 13, which ran out of memory"
    assert (training.micro_batch, training.micro_batch_reason) == (1, reason)
    (row,) = decisions.read(Run(Path(found["rehearsal"])))
    assert (row["reason"], confining.job(row["job"].split(".")[0])["Restarts"]) == ("done", "0")
