"""What `watch` shows of a run: from files, whole or damaged, with or without an answer of the queue."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster.snapshot import snapshot
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.run import Project
from kit.plan.buckets import BUCKETS
from kit.store.files import write_json
from kit.store.paths import Workspace
from kit.watch import guard_state, view
from kit.watch.detectors import Alert
from kit.watch.holding import Holding
from kit.watch.text import lines
from tests.written import T, Written, two_attempts

if TYPE_CHECKING:
    from kit.store.paths import Run

STAGES = ("tokenize", "train", "evaluate")


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    recipe = Recipe.model_validate({
        "name": "r", "workspace": str(tmp_path / "work"),
        "corpus": {"sources": {"web": {"kind": "plaintext", "location": "web.txt"}}},
        "model": {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 16},
        "training": {"steps": 1000, "checkpoint_every": 10, "keep": 2},
        "tracking": {"mlflow": None},
    })  # fmt: skip
    cluster = {"name": "c", "kind": "slurm", "training": {"ranks_per_node": 2, "minutes": 1440}}
    return Project(run, recipe, Cluster.model_validate(cluster))


def chain(**train: Any) -> dict[str, dict[str, Any]]:
    """The states as `status` gives them, of training those that are given."""
    none = {"state": "done", "reason": None, "since": None, "job": None}
    found = {name: dict(none) for name in STAGES}
    found["train"] |= {"state": "running", "steps": 1000, "step": 0, "attempts": 0, "loss": None,
                       "tokens_per_second": None, "last_step": None} | train  # fmt: skip
    found["evaluate"] |= {"state": "waiting", "reason": "train, before it, is running"}
    return found


@pytest.fixture
def running(run: Run) -> Written:
    """Two attempts: the first preempted after 40 steps, 3 of them lost; the second is at step 60."""
    written = two_attempts(run, "preemption")
    os.utime(run.attempt(2).ledger, (T + 1190, T + 1190))
    return written


STATE = {"step": 60, "loss": 1.0, "last_step": T + 1190, "attempts": 2, "job": "job 17"}


def shown(project: Project, now: float, **train: Any) -> dict[str, Any]:
    facts = view.facts(project, chain(**train), snapshot(project.run), T + now)
    assert json.loads(json.dumps(facts)) == facts
    return facts


def test_the_state_of_a_running_run(project: Project, running: Written) -> None:
    facts = shown(project, 1195, **STATE)
    assert [one["lost"] for one in facts["attempts"]] == [3, 0]
    assert facts["checkpoint"] == {"step": 37, "time": T + 530, "age": 665}
    assert sum(one["share"] for one in facts["goodput"]["buckets"].values()) == pytest.approx(1)
    assert facts["goodput"]["buckets"]["kept_steps"]["seconds"] == pytest.approx(370 + 230 + 5)
    assert facts["arrival"]["left"] == 940
    assert facts["arrival"]["earliest"] > T + 1195 + 9000
    assert facts["arrival"]["if_submitted_now"] is False
    assert facts["alerts"] == facts["problems"] == []
    text = "\n".join(lines(facts))
    for part in (
        "chain       done        tokenize\n            running     train\n",
        "            waiting     evaluate: train, before it, is running",
        "run         step 60 of 1,000, 6.0%\n            loss 1.000, 5 s ago; validation 1.500 at",
        "attempt  1",
        "checkpoint  step 37, 11 min ago",
        "1: from step 0, 40 steps, 3 steps lost; preemption after 8 min",
        "2: from step 37, 23 steps; running for 5 min",
        f"{BUCKETS['queue']}, 7 min",
        "alerts      none",
    ):
        assert part in text


def test_if_the_queue_is_silent_the_files_tell_whether_it_runs(
    project: Project, running: Written
) -> None:
    silent = {"state": "unknown", "reason": "squeue: no answer in 60 s"}
    facts = shown(project, 1195, **STATE, **silent)
    assert facts["goodput"]["buckets"]["unknown"]["seconds"] == 0
    assert "train: squeue: no answer in 60 s" in "\n".join(lines(facts))


def test_a_run_before_its_first_submission_is_shown_too(project: Project) -> None:
    facts = shown(project, 0, state="not begun", steps=None)
    assert (facts["goodput"]["seconds"], facts["arrival"], facts["attempts"]) == (0, None, [])
    assert any("no node was held yet" in line for line in lines(facts))


def test_before_its_first_step_a_run_arrives_as_computed_and_as_rehearsed(
    project: Project,
) -> None:
    training = project.cluster.training.model_copy(update={"accelerator": "a100"})
    on_gpus = replace(project, cluster=project.cluster.model_copy(update={"training": training}))
    waiting = {"state": "queued", "since": T, "steps": 1000}
    arrives = shown(on_gpus, 0, **waiting)["arrival"]
    # 64 x 16 tokens of a model of 32,000 x 16 parameters take no time on an A100.
    assert (arrives["basis"], arrives["measured"]) == ("computed", False)
    assert arrives["date"] < T + 3600
    assert shown(project, 0, **waiting)["arrival"] is None

    rehearsal = Written(Workspace(Path(project.recipe.workspace)).run("r-rehearsal"))
    rehearsal.start(1, -1000)
    rehearsal.steps(1, -990, range(1, 21), 30.0)
    write_json(rehearsal.run.cluster, {"name": "another"})
    assert shown(on_gpus, 0, **waiting)["arrival"]["basis"] == "computed"
    write_json(rehearsal.run.cluster, {"name": "c"})
    facts = shown(on_gpus, 0, **waiting)
    assert facts["arrival"]["basis"] == "rehearsed"
    assert facts["arrival"]["earliest"] > T + 1000 * 30 * 0.7
    assert any("from the step time of its rehearsal" in line for line in lines(facts))


def test_a_damaged_ledger_is_named_and_the_rest_is_shown(
    project: Project, running: Written
) -> None:
    whole_run = shown(project, 1195, **STATE)
    for damage, named in (
        ("no row\n", "JSONDecodeError"),
        ('{"kind": "step"}\n', "missing required field `step`"),
        ('{"kind": "checkpoint", "step": 7, "time": 1}\n', "KeyError: 'blocked'"),
    ):
        ledger = project.run.attempt(2).ledger
        whole = ledger.read_text()
        ledger.write_text(damage + whole)
        os.utime(ledger, (T + 1190, T + 1190))
        facts = shown(project, 1195, **STATE)
        assert named in facts["problems"][0]
        free = {"problems": [], "disk": whole_run["disk"]}
        assert facts | free == whole_run
        assert any(line.startswith("problem ") for line in lines(facts))
        ledger.write_text(whole)


def test_a_torn_last_row_and_a_row_of_an_unknown_kind_do_no_harm(
    project: Project, running: Written
) -> None:
    before = shown(project, 1195, **STATE)
    running.row(2, "of a newer version", 1191)
    with project.run.attempt(2).ledger.open("a") as ledger:
        ledger.write('{"kind": "step", "st')
    os.utime(project.run.attempt(2).ledger, (T + 1190, T + 1190))
    assert shown(project, 1195, **STATE)["goodput"] == before["goodput"]


def test_a_run_that_stopped_says_so_and_when_it_would_arrive(
    project: Project, running: Written
) -> None:
    running.decide(2, 1195, "crash, 4 times without a new checkpoint", requeued=False)
    write_json(project.run.jobs, {"time": T, "slurm": {"train": "17"}})
    facts = shown(project, 1300, **{**STATE, "state": "failed", "reason": "crash, 4 times"})
    assert [alert["detector"] for alert in facts["alerts"]] == ["ended"]
    assert facts["arrival"]["if_submitted_now"] is True
    text = "\n".join(lines(facts))
    assert "if it is resumed now" in text
    assert f"ekiden pipeline submit {project.run.root}" in text
    told = {**STATE, "state": "cancelled", "next": "ekiden pipeline run demo"}
    (alert,) = shown(project, 1300, **told)["alerts"]
    assert alert["command"] == told["next"]
    assert time.strftime("%Y-%m-%d", time.localtime(T)) in text


def test_what_mlflow_lacks_and_the_disk_lacks_is_an_alert(
    project: Project, running: Written
) -> None:
    tracking = project.recipe.tracking.model_copy(update={"mlflow": "workspace"})
    project = Project(
        project.run, project.recipe.model_copy(update={"tracking": tracking}), project.cluster
    )
    write_json(project.run.mlflow_cursor, {"sent": {"step": 10}})
    running.row(2, "checkpoint", 1192, step=60, seconds=5.0, blocked=1.0, bytes=10**18)
    os.utime(project.run.attempt(2).ledger, (T + 1192, T + 1192))
    facts = shown(project, 1195 + 3600, **STATE)
    names = {alert["detector"] for alert in facts["alerts"]}
    assert {"mlflow_behind", "disk"} <= names


def test_an_alert_says_since_when_it_holds_if_a_guard_knows(
    project: Project, running: Written
) -> None:
    running.decide(2, 1195, "crash, 4 times without a new checkpoint", requeued=False)
    stopped = {**STATE, "state": "failed", "reason": "crash, 4 times"}
    (alert,) = shown(project, 1300, **stopped)["alerts"]
    assert alert["since"] is None
    del alert["since"]
    holding, _ = Holding().after([Alert(**alert)], T + 1200, 3600.0)
    guard_state.save(project.run, holding)
    facts = shown(project, 1300, **stopped)
    assert facts["alerts"][0]["since"] == T + 1200
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(T + 1200))
    assert f"(since {since})" in "\n".join(lines(facts))


def test_a_stage_that_failed_is_an_alert(project: Project, running: Written) -> None:
    stages = chain(**STATE)
    stages["evaluate"] |= {"state": "failed", "reason": "exit code 1"}
    facts = view.facts(project, stages, snapshot(project.run), T + 1195)
    assert [(one["detector"], one["text"]) for one in facts["alerts"]] == [
        ("stage_failed", "evaluate failed: exit code 1")
    ]


def test_a_bad_step_between_two_looks_is_seen(project: Project, running: Written) -> None:
    """Twenty steps ago: a look at the last ten does not see it, one that knows the last look does."""
    at = running.steps(2, 1190, range(61, 70))
    running.row(2, "step", at + 10, step=70, seconds=10.0, loss=None)
    at = running.steps(2, at + 10, range(71, 91))
    os.utime(project.run.attempt(2).ledger, (T + at, T + at))
    for last_step, detectors in ((None, []), (60, ["loss_not_finite"]), (80, [])):
        seen = snapshot(project.run)
        facts = view.facts(project, chain(**STATE), seen, T + at + 1, last_step=last_step)
        found = [one["detector"] for one in facts["alerts"]]
        assert [name for name in found if name == "loss_not_finite"] == detectors


def test_a_run_that_learns_nothing_is_an_alert(project: Project, run: Run) -> None:
    written = Written(run)
    written.start(1, 100)
    at = written.steps(1, 150, range(1, 1001), seconds=1.0)
    os.utime(run.attempt(1).ledger, (T + at, T + at))
    facts = shown(project, at + 1, **{**STATE, "step": 1000, "steps": 2000})
    assert "no_learning" in {one["detector"] for one in facts["alerts"]}
