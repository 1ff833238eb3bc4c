"""The demo's recipe on a real Slurm, with a real preemption."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.live import Looker, Reader
from kit.cluster import decisions
from kit.relay import resolve
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from kit.watch.page import Page
from tests.relay import (
    DEMO,
    FP32,
    ROOT,
    SHORT,
    SLOW,
    TINY,
    curve,
    final_files,
    wait_for_step,
    wait_until,
)
from tests.slurm.conftest import WAITING, WATCHED
from tests.slurm.trial import (
    ALONE,
    CLUSTER,
    PATIENCE,
    processes_of,
    submit,
    wait_for_attempt,
    wait_for_checkpoint,
)
from tests.speed import patience
from tests.warm import light as command

if TYPE_CHECKING:
    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

# Five seconds from the first checkpoint to the end: time for what must happen between them.
SIXTY_STEPS = (*TINY, SLOW, "training.steps=60", "training.checkpoint_every=10")


def stages_of(workspace: Path, *overrides: str) -> dict[str, Any]:
    """What `jobs.pipeline status` says of each stage."""
    arguments = (str(DEMO), f"workspace={workspace}", *overrides, FP32, "--cluster", CLUSTER)
    stages: dict[str, Any] = json.loads(command("pipeline", "status", *arguments, "--json"))[
        "stages"
    ]
    return stages


def test_slurms_record_shows_the_preemption_and_the_requeue(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]]
) -> None:
    _, jobs = preempted
    job = slurm.job(jobs["train"])
    assert job["JobState"] == "COMPLETED"
    assert job["Restarts"] == "1"
    assert job["Comment"] == "ekiden: done"
    if slurm.accounting:
        assert slurm.attempts(jobs["train"]) == ["REQUEUED", "COMPLETED"]


def test_while_it_waits_after_the_preemption_the_status_says_so(
    preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    _, jobs = preempted
    found = json.loads((workspace / WAITING).read_text())
    assert (found["state"], found["job"]) == ("queued", f"job {jobs['train']}")
    assert found["reason"].startswith("requeued after preemption; Slurm: ")
    assert found["since"] > 0
    assert found["saved"] == found["step"] >= 20
    assert found["steps"] == 40
    assert found["next"] == f"squeue --start --jobs={jobs['train']}"


def test_watch_shows_the_queue_as_slurm_has_it(
    preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    _, jobs = preempted
    found = json.loads((workspace / WATCHED).read_text())
    train, after = found["chain"]["train"], found["chain"]["evaluate"]
    assert (train["state"], train["job"]) == ("queued", f"job {jobs['train']}")
    # An estimate of Slurm's backfill, if it has made one since the requeue.
    assert train["starts"] is None or train["starts"] > found["attempts"][0]["start"]
    assert (after["state"], after["reason"]) == (
        "queued", "Slurm: Dependency (waits for the job before it)",
    )  # fmt: skip
    assert found["queue"]["silent"] is None
    assert abs(found["time"] - found["queue"]["time"]) < PATIENCE
    assert found["limit"] is None
    assert [attempt["reason"] for attempt in found["attempts"]] == ["preemption"]


def test_the_live_view_asks_slurm_once_for_all_jobs_however_often_it_looks(
    preempted: tuple[Run, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = preempted
    calls = tmp_path / "calls"
    counting = tmp_path / "squeue"
    counting.write_text(f'#!/bin/sh\necho >> {calls}\nexec {shutil.which("squeue")} "$@"\n')
    counting.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    looks: list[dict[str, Any]] = []

    def three() -> bool:
        facts = reader.current(Page()).facts
        if facts is not None and facts not in looks:
            looks.append(facts)
        return len(looks) > 2

    with Reader(Looker(lambda: resolve.read_run(run.root), [str(run.root)])) as reader:
        wait_until(three, "third look")
    assert len(calls.read_text().splitlines()) == 1
    assert {facts["queue"]["time"] for facts in looks} == {looks[0]["queue"]["time"]}
    assert looks[-1]["chain"]["generate"]["state"] == "done"


def test_every_job_of_the_chain_ran_once_but_training(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]]
) -> None:
    run, jobs = preempted
    states = {name: slurm.job(job)["JobState"] for name, job in jobs.items()}
    assert set(states.values()) == {"COMPLETED"}, states
    ends = [read_json(attempt.end) for attempt in ledger.attempts(run)]
    assert [end["outcome"] for end in ends] == ["interrupted", "done"]


def test_the_ledger_has_the_times_of_each_start_and_goodput_finds_them(
    preempted: tuple[Run, dict[str, str]],
) -> None:
    run, jobs = preempted
    first, second = (
        row
        for attempt in ledger.attempts(run)
        for row in ledger.rows(attempt)
        if row["kind"] == "attempt"
    )
    for row, restarts in ((first, 0), (second, 1)):
        assert row["job"] == f"{jobs['train']}.{restarts}"
        assert row["nodes"]
        times = [
            row[key] for key in ("submitted", "eligible", "started", "imported", "met", "time")
        ]
        assert times == sorted(times)
    left = read_json(run.attempt(1).end)["time"]
    assert second["submitted"] >= int(
        left
    )  # a requeue is a new submission; Slurm counts in seconds
    shown = json.loads(command("watch", str(run.root), "--json"))
    buckets = {name: one["seconds"] for name, one in shown["goodput"]["buckets"].items()}
    spent = sum(row["imported"] - row["started"] for row in (first, second))
    assert buckets["startup_import"] == pytest.approx(spent, abs=0.1)
    assert buckets["queue"] > 0
    assert {*shown["goodput"]["unknown"]} <= {"between two rows of the ledger"}
    assert sum(buckets.values()) == pytest.approx(shown["goodput"]["seconds"])


def test_a_preemption_on_slurm_leaves_no_trace(
    preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    run, _ = preempted
    name = (*SHORT, "tracking.mlflow=null", "name=uninterrupted")
    command("train", "run", str(DEMO), f"workspace={workspace}", *name)
    uninterrupted = Workspace(workspace).run("uninterrupted")
    assert final_files(run) == final_files(uninterrupted)
    assert curve(run) == curve(uninterrupted)


def test_a_relay_on_slurm_ends_in_a_model(preempted: tuple[Run, dict[str, str]]) -> None:
    run, _ = preempted
    scores = read_json(run.evaluation / "scores.json")
    assert scores["loss"] < scores["unigram_loss"]
    assert (run.export / "model.safetensors").is_file()
    assert read_json(run.samples / "samples.json")
    page = run.report_page.read_text(encoding="utf-8")  # made by the job of the last stage
    assert "The training is finished" in page
    assert "preemption: 1." in page


def test_a_killed_rank_costs_no_more_than_the_steps_since_the_last_checkpoint(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    run, jobs = submit(workspace, *SIXTY_STEPS, ALONE, "name=killed", job="train")
    wait_for_checkpoint(run)
    slurm.run("scancel", "--signal=KILL", jobs["train"] + ".0")
    slurm.wait(jobs["train"], "COMPLETED", timeout=PATIENCE)
    assert slurm.job(jobs["train"])["Comment"] == "ekiden: done"
    assert decisions.read(run)[0]["reason"].startswith("crash")
    starts = [read_json(attempt.start)["from_step"] for attempt in ledger.attempts(run)]
    assert starts[0] == 0
    assert starts[1] >= 10
    steps = [row["step"] for row in ledger.canonical(run) if row["kind"] == "step"]
    assert steps == list(range(1, 61))


@pytest.mark.long  # a killed step, above, and tests/chaos are of the same kind
@pytest.mark.parametrize("rank", [0, 1])
def test_one_dead_rank_ends_the_others_and_the_run_goes_on(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path, rank: int
) -> None:
    run, jobs = submit(workspace, *SIXTY_STEPS, f"name=rank-{rank}", job="train")
    wait_for_checkpoint(run)
    os.kill(processes_of(jobs["train"])[rank], signal.SIGKILL)
    slurm.wait(jobs["train"], "COMPLETED", timeout=PATIENCE)
    job = slurm.job(jobs["train"])
    assert job["Restarts"] == "1"
    assert decisions.read(run)[0]["reason"].startswith("crash")
    steps = [row["step"] for row in ledger.canonical(run) if row["kind"] == "step"]
    assert steps == list(range(1, 61))


def test_gpus_that_torch_cannot_use_end_the_job_in_one_line_and_not_in_requeues(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    torch = Path(importlib.util.find_spec("torch").origin)  # not imported for this alone
    if runpy.run_path(str(torch.with_name("version.py")))["cuda"] is not None:
        pytest.skip("of a CPU build")
    overrides = ("name=no-gpu", "cluster.device=cuda", "tracking.mlflow=null")
    run, jobs = submit(workspace, *overrides, job="train")
    job = slurm.wait(jobs["train"], "FAILED", timeout=PATIENCE)
    assert job["Restarts"] == "0"
    assert not run.claimed_attempts()
    said = command("train", "status", str(DEMO), f"workspace={workspace}", FP32, *overrides)
    assert "is built for the CPU; install a CUDA build" in said


def test_a_second_live_job_of_a_run_is_not_submitted(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    overrides = ("name=twice", "training.steps=2000", "tracking.mlflow=null", ALONE)
    _, jobs = submit(workspace, *overrides, job="train")
    again = (str(DEMO), f"workspace={workspace}", *overrides, "--cluster", CLUSTER)
    said = command("train", "submit", *again, FP32)
    slurm.run("scancel", jobs["train"])
    assert said.startswith(f"nothing to submit: train (job {jobs['train']}) is ")
    assert said.count("\n") == 1


def test_a_mistake_in_a_job_ends_the_chain_and_is_not_retried(slurm: Slurm, tmp_path: Path) -> None:
    run, jobs = submit(tmp_path, "tokenizer.vocab_size=60000", "tokenizer.candidates=[]")
    slurm.wait(jobs["candidates"], "FAILED", timeout=PATIENCE)
    slurm.wait(jobs["train"], "CANCELLED", timeout=PATIENCE)
    assert slurm.job(jobs["candidates"])["Restarts"] == "0"
    log = "".join(path.read_text() for path in (run.submissions / "candidates").glob("*.out"))
    assert "tokenizer.vocab_size=60000: the corpus yields only" in log
    stages = stages_of(tmp_path, "tokenizer.vocab_size=60000", "tokenizer.candidates=[]")
    failed = stages["candidates"]
    assert (failed["state"], failed["job"]) == ("failed", f"job {jobs['candidates']}")
    assert failed["reason"].startswith("tokenizer.vocab_size=60000: the corpus yields only")
    assert any(failed["reason"] in line for line in failed["tail"])
    assert failed["log"].endswith(f"{jobs['candidates']}_0_log.out")
    assert {stages[name]["state"] for name in ("train", "evaluate")} == {"cancelled"}
    assert "candidates, before it, did not succeed" in stages["train"]["reason"]
    assert "jobs.pipeline submit" in failed["next"]


def test_a_chain_that_its_user_cancelled_says_so(slurm: Slurm, tmp_path: Path) -> None:
    _, jobs = submit(tmp_path, "cluster.sbatch.begin=now+3600")
    wait_until(  # for a moment Slurm has no reason yet
        lambda: "Slurm: BeginTime" in stages_of(tmp_path)["download"]["reason"], "Slurm's reason"
    )
    stages = stages_of(tmp_path)
    assert stages["download"]["state"] == "queued"
    assert stages["train"]["reason"].startswith("Slurm: Dependency")
    slurm.run("scancel", *jobs.values())
    stages = stages_of(tmp_path)
    assert {stage["state"] for stage in stages.values()} == {"cancelled"}
    assert "Slurm: CANCELLED" in stages["download"]["reason"]


def test_a_chain_cancelled_in_training_is_saved_and_leaves_nothing_in_the_queue(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path
) -> None:
    name = ("name=cancelled", "training.steps=5000", "tracking.mlflow=null", ALONE)
    run, jobs = submit(workspace, *name)
    wait_for_attempt(run, 1)
    where = (str(DEMO), f"workspace={workspace}", *name, FP32, "--cluster", CLUSTER)
    log = subprocess.Popen(
        [sys.executable, "-m", "jobs.train", "logs", "--follow", *where],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = command("pipeline", "cancel", *where)
    (end,) = [read_json(attempt.end) for attempt in ledger.attempts(run)]
    job = f"job {jobs['train']}"
    assert f"train: {job} was running; cancelled, saved up to step {end['saved']}\n" in said
    assert f"evaluate: job {jobs['evaluate']} was queued; cancelled\n" in said
    assert not {*jobs.values()} & {*slurm.run("squeue", "--noheader", "--format=%A").split()}
    assert slurm.job(jobs["train"])["Restarts"] == "0"
    assert (end["outcome"], end["reason"]) == ("interrupted", "cancelled by its user")
    assert (
        end["saved"] == end["step"] == max(step for step, _ in run.committed_checkpoints().values())
    )
    stages = stages_of(workspace, *name)
    for stage in ("train", "evaluate"):
        assert stages[stage]["state"] == "cancelled"
        assert stages[stage]["reason"].startswith("by its user")
    followed = log.communicate(timeout=patience(PATIENCE))[0]
    assert log.returncode == 0
    assert f"step {end['saved']} is saved" in followed


def test_the_logs_of_a_preempted_run_have_both_attempts_in_order(
    preempted: tuple[Run, dict[str, str]],
) -> None:
    run, jobs = preempted
    log = run.job_logs("train") / f"{jobs['train']}_0_log.out"
    printed = command("train", "logs", str(run.root))
    assert printed.startswith(f"==> {log} <==\n")
    assert printed.endswith(log.read_text())
    (second,) = [
        part for part in printed.split("train: job ") if part.startswith(f"{jobs['train']}.1 ")
    ]
    assert second in command("train", "logs", str(run.root), "--attempt", "2")


def test_what_is_edited_after_the_submission_has_no_effect(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    for part in ("jobs", "kit", "configs"):
        shutil.copytree(ROOT / part, checkout / part)
    recipe = checkout / "configs" / "demo.yaml"
    overrides = (*SHORT, "tracking.mlflow=null", "name=edited")
    name = (f"workspace={workspace}", *overrides, "--cluster", CLUSTER)
    subprocess.run(
        [sys.executable, "-m", "jobs.train", "submit", recipe, *name], cwd=checkout, check=True
    )
    run = Workspace(workspace).run("edited")
    wait_for_step(run, 10)
    (job,) = read_json(run.jobs)["slurm"].values()
    for module in (checkout / "kit").rglob("*.py"):
        module.write_text("raise SystemExit('the checkout is not what runs')\n")
    recipe.write_text(recipe.read_text().replace("2.0e-3", "1.0e-3"))
    slurm.run("scontrol", "requeue", job)
    slurm.wait(job, lambda found: int(found["Restarts"]) >= 1, timeout=PATIENCE)
    slurm.start_now(job)
    slurm.wait(job, "COMPLETED", timeout=PATIENCE)
    assert len(ledger.attempts(run)) == 2
    assert final_files(run) == final_files(preempted[0])
    assert curve(run) == curve(preempted[0])
