"""Sites with another configuration: preemption by QOS, and a signal of one's own instead of SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.store.files import read_json

from .conftest import missing, running
from .stand_in import StandIn
from .trial import PATIENCE, WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
