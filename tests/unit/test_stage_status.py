"""Where stages stand, from what a run directory and the queue say."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions, lock
from kit.cluster.snapshot import Submitted, snapshot
from kit.cluster.state import Element
from kit.relay import job_status, queue_answer, report, stage_status, status
from kit.relay.queue_answer import QueueAnswer
from kit.store.files import read_json, write_json
from kit.store.units import Fault, Survey

if TYPE_CHECKING:
    from kit.store.paths import Run

DONE, NONE = Survey({"done": 2, "missing": 0}), Survey({"done": 0, "missing": 2})
HALF = Survey({"done": 1, "missing": 1}, begun=["web-00001"])
WAITS = Survey({}, waits="raw/web: not made yet; run ekiden download first")
CHAIN = {"download": DONE, "preprocess": HALF, "tokenizer": WAITS}
JOBS = {"download": "17", "preprocess": "18", "tokenizer": "19"}


def element(job: str, state: str, reason: str = "None", **times: float) -> Element:
    known = {"submitted": None, "started": None, "ended": None} | times
    return Element(job, state, reason, **known)


def on_slurm(run: Run, *elements: Element, silent: str | None = None) -> job_status.Submission:
    """The chain of JOBS, and what squeue says of it."""
    queue: dict[str, list[Element]] = {}
    for one in elements:
        queue.setdefault(one.job.split("_")[0], []).append(one)
    seen = replace(snapshot(run), submitted=Submitted(slurm=JOBS))
    jobs = frozenset() if silent else frozenset(JOBS.values())
    return job_status.Submission(seen, QueueAnswer(queue, jobs, 1.0, silent), None)


def stand(
    submission: job_status.Submission, **surveys: Survey
) -> dict[str, stage_status.StageStatus]:
    return {one.name: one for one in stage_status.of_chain(submission, CHAIN | surveys)}


def decided(run: Run, name: str, job: str, reason: str, *, requeued: bool = False) -> None:
    decisions.record(run, job, name, decisions.Decision(requeued, reason))


def log(run: Run, name: str, file: str, *lines: str) -> str:
    path = run.job_logs(name) / f"{file}_log.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def announced(run: Run, *names: str, begun: str | None = None, node: str | None = None) -> None:
    """What a process of this machine was to do; it began all up to `begun`."""
    jobs: list[dict[str, Any]] = [
        {"name": name, "tasks": [0], "resources": "single"} for name in names
    ]
    for name in names[: names.index(begun) + 1] if begun else ():
        next(job for job in jobs if job["name"] == name)["begun"] = time.time()
    here = {"node": node} if node else {}
    write_json(run.jobs, {"cluster": "local", "time": time.time() - 5, "local": jobs, **here})


def test_a_task_that_failed_for_good_names_its_unit_its_log_and_the_last_lines(run: Run) -> None:
    path = log(
        run, "preprocess", "18_1_0", "preprocess: web-00001 (1 of 1)", "Traceback ...", "OSError"
    )
    log(run, "preprocess", "18_0_0", "preprocess: web-00000 (1 of 1)")
    decided(run, "preprocess", "18_1.2", "failed 3 times (exit code 1)")
    found = stand(on_slurm(run, element("19", "CANCELLED", "DependencyNeverSatisfied", ended=9.0)))
    failed = found["preprocess"]
    assert (failed.state, failed.unit, failed.job) == ("failed", "web-00001", "job 18_1")
    assert failed.reason == "failed 3 times (exit code 1)"
    assert str(failed.log) == path
    assert failed.tail[-2:] == ["Traceback ...", "OSError"]
    assert failed.since is not None
    after = found["tokenizer"]
    assert (after.state, after.since) == ("cancelled", 9.0)
    assert after.reason == (
        "preprocess, before it, did not succeed (Slurm: CANCELLED, DependencyNeverSatisfied)"
    )


def test_a_job_that_slurm_has_not_looked_at_yet_says_so(run: Run) -> None:
    found = stand(on_slurm(run, element("17", "PENDING", "None", submitted=1.0)))["download"]
    assert (found.state, found.reason) == ("queued", "Slurm: not scheduled yet")


def test_a_mistake_is_the_reason_in_its_own_words(run: Run) -> None:
    write_json(run.mistake("preprocess"), {"job": "18_0.0", "message": "web.txt: not UTF-8"})
    log(run, "preprocess", "18_0_0", "preprocess: web.txt: not UTF-8")
    failed = stand(on_slurm(run))["preprocess"]
    assert (failed.state, failed.reason) == ("failed", "web.txt: not UTF-8")
    assert failed.tail == ["preprocess: web.txt: not UTF-8"]


def test_a_job_that_waits_after_a_preemption_says_so_with_slurms_reason(run: Run) -> None:
    decided(run, "preprocess", "18_0.0", "preemption", requeued=True)
    found = stand(on_slurm(run, element("18_0", "PENDING", "BeginTime", submitted=3.0)))
    waiting = found["preprocess"]
    assert (waiting.state, waiting.job) == ("queued", "job 18_0")
    assert str(waiting.reason).startswith(
        "requeued after preemption; Slurm: BeginTime (waits for its begin"
    )
    assert waiting.since == pytest.approx(time.time(), abs=60)


def test_a_job_in_the_queue_or_at_work_says_since_when(run: Run) -> None:
    queue = (
        element("18_0", "RUNNING", started=5.0, submitted=1.0),
        element("18", "PENDING", "Resources", submitted=1.0),
        element("19", "PENDING", "Dependency", submitted=2.0),
    )
    found = stand(on_slurm(run, *queue))
    assert (found["preprocess"].state, found["preprocess"].since) == ("running", 5.0)
    assert found["preprocess"].reason == (
        "other tasks are pending: Slurm: Resources (next in line for nodes that become free)"
    )
    after = found["tokenizer"]
    assert (after.state, after.since) == ("queued", 2.0)
    assert after.reason == "Slurm: Dependency (waits for the job before it)"


def test_a_job_that_a_preemption_ended_for_good_says_so(run: Run) -> None:
    log(run, "preprocess", "18_0_0", "begun")
    found = stand(on_slurm(run, element("18_0", "PREEMPTED", ended=7.0)), preprocess=NONE)
    assert (found["preprocess"].state, found["preprocess"].since) == ("failed", 7.0)
    assert found["preprocess"].reason == "Slurm: PREEMPTED"


def test_a_chain_that_slurm_has_forgotten_was_cancelled_before_it_began(run: Run) -> None:
    found = stand(on_slurm(run), preprocess=NONE)
    assert found["preprocess"].state == "cancelled"
    assert "left Slurm's queue before it started" in str(found["preprocess"].reason)
    assert found["tokenizer"].reason == "preprocess, before it, did not succeed"


def test_a_job_that_ended_well_says_nothing_of_what_became_stale_since(run: Run) -> None:
    for task in ("18_0", "18_1"):
        log(run, "preprocess", f"{task}_0", "done")
        run.task_done("preprocess", task).touch()
    write_json(run.submitted_tasks("preprocess", "18"), {"elements": 2})
    stale = Survey(
        {"done": 0, "missing": 0, "stale": 2}, [Fault("a", "stale", "held_out: 0.1 -> 0.2")]
    )
    assert stand(on_slurm(run), preprocess=stale)["preprocess"].state == "stale"
    run.task_done("preprocess", "18_1").unlink()
    ended = stand(on_slurm(run))["preprocess"]
    assert (ended.state, ended.job) == ("failed", "job 18")
    assert "without recording a reason" in str(ended.reason)


def test_a_job_of_another_number_is_not_taken_for_it(run: Run) -> None:
    log(run, "preprocess", "180_0", "another job's")
    assert stand(on_slurm(run))["preprocess"].log is None


def test_without_an_answer_of_slurms_a_state_is_unknown(run: Run) -> None:
    found = stand(on_slurm(run, silent="squeue: no answer in 60 s"))
    assert (found["download"].state, found["preprocess"].state) == ("done", "unknown")
    assert found["preprocess"].reason == "squeue: no answer in 60 s"


def test_while_slurm_is_silent_its_last_answer_stands(run: Run) -> None:
    alive = element("18_0", "RUNNING", ended=99.0)
    known = on_slurm(run, alive)
    silent = replace(known.queue, silent="squeue: no answer in 60 s")
    found = stand(replace(known, queue=silent))
    assert (found["preprocess"].state, found["preprocess"].ends) == ("running", 99.0)
    assert found["tokenizer"].state == "cancelled"  # it was not in the queue when Slurm answered
    assert silent.facts() == {"time": 1.0, "silent": "squeue: no answer in 60 s"}


def test_what_was_submitted_after_slurms_answer_is_unknown_until_the_next(run: Run) -> None:
    known = on_slurm(run)
    newer = replace(known.seen, submitted=Submitted(slurm={**JOBS, "preprocess": "27"}))
    found = stand(replace(known, seen=newer))
    assert found["preprocess"].state == "unknown"
    assert found["preprocess"].reason == "submitted after Slurm was last asked"


def test_an_answer_outlives_a_slurm_that_cannot_be_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(run.jobs, {"cluster": "c", "time": 1.0, "slurm": JOBS})
    monkeypatch.setenv("PATH", "")
    first = queue_answer.ask(snapshot(run))
    assert first.time is None
    assert "squeue: not on the PATH" in str(first.silent)
    before = QueueAnswer({"17": [element("17", "RUNNING")]}, frozenset(JOBS.values()), 1.0)
    after = queue_answer.ask(snapshot(run), before)
    assert (after.elements, after.time, after.silent) == (before.elements, 1.0, first.silent)


def test_a_run_without_jobs_on_slurm_asks_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert queue_answer.ask(snapshot(run)).facts() is None


def test_a_queued_job_has_slurms_estimate_of_its_start_and_a_running_one_its_limit(
    run: Run,
) -> None:
    tasks = [element(f"18_{number}", "RUNNING", started=2.0, ended=50.0) for number in range(3)]
    later = element("19", "PENDING", "Priority", submitted=1.0, started=70.0)
    found = stand(on_slurm(run, *tasks, element("18", "PENDING", "Resources"), later))
    assert (found["preprocess"].running, found["preprocess"].ends) == (3, 50.0)
    assert found["preprocess"].starts is None
    assert (found["tokenizer"].starts, found["tokenizer"].ends) == (70.0, None)
    assert found["tokenizer"].facts()["starts"] == 70.0


@pytest.mark.parametrize(
    ("reason", "state", "told"),
    [
        ("cancelled", "cancelled", "by its user"),
        ("stopped: STOP file", "stopped", "STOP file"),
        ("crash, 4 times without a new checkpoint (exit code 1)", "failed", "crash, 4 times"),
    ],
)
def test_the_word_for_how_training_ended(run: Run, reason: str, state: str, told: str) -> None:
    announced(run, "train", begun="train")
    decided(run, "train", "train-0-abcdef12.0", reason)
    found = stage_status.of_chain(job_status.read(snapshot(run)), {"train": NONE})[0]
    assert found.state == state
    assert told in str(found.reason)


def test_an_end_of_an_earlier_submission_is_not_the_end_of_this_one(run: Run) -> None:
    decided(run, "train", "17.0", "cancelled")
    time.sleep(0.01)
    write_json(run.jobs, {"cluster": "local", "time": time.time(), "local": [{"name": "train"}]})
    assert (
        stage_status.of_chain(job_status.read(snapshot(run)), {"train": NONE})[0].state
        == "not begun"
    )


def test_a_killed_process_of_this_machine_is_told_as_one(run: Run) -> None:
    announced(run, "preprocess", "tokenizer", begun="preprocess")
    path = log(run, "preprocess", "preprocess-0_0", "preprocess: web-00001 (1 of 1)")
    run.supervisor.write_text("4194305")  # beyond the kernel's greatest process id
    found = stand(job_status.read(snapshot(run)))
    assert (found["preprocess"].state, found["preprocess"].job) == (
        "interrupted",
        "process 4194305",
    )
    assert "was killed, or its machine went down" in str(found["preprocess"].reason)
    assert (found["preprocess"].unit, str(found["preprocess"].log)) == ("web-00001", path)
    assert found["tokenizer"].reason == "preprocess, before it, was interrupted"


def test_a_process_of_another_machine_is_not_taken_for_dead(run: Run) -> None:
    announced(run, "preprocess", begun="preprocess", node="another")
    run.supervisor.write_text("4194305")
    assert stand(job_status.read(snapshot(run)))["preprocess"].state == "unknown"


def test_a_process_at_work_has_one_stage_and_a_queue(run: Run) -> None:
    announced(run, "preprocess", "tokenizer", begun="preprocess")
    with lock.hold(run):
        found = stand(job_status.read(snapshot(run)))
    assert (found["preprocess"].state, found["preprocess"].job) == (
        "running",
        f"process {os.getpid()}",
    )
    assert (found["tokenizer"].state, found["tokenizer"].reason) == ("queued", "after preprocess")
    assert not run.supervisor.exists()
    assert stand(job_status.read(snapshot(run)))["preprocess"].state == "incomplete"


def test_a_stage_of_a_process_at_work_is_over_once_the_next_has_begun(run: Run) -> None:
    announced(run, "download", "preprocess", "tokenizer", begun="preprocess")
    jobs = read_json(run.jobs)
    jobs["local"][0]["begun"] = time.time() - 1
    write_json(run.jobs, jobs)
    with lock.hold(run):
        found = stand(job_status.read(snapshot(run)))
    states = [found[name].state for name in ("download", "preprocess", "tokenizer")]
    assert states == ["done", "running", "queued"]


def test_what_is_done_is_stale_behind_a_stage_that_is_not(run: Run) -> None:
    stale = Survey({"done": 1, "missing": 0, "stale": 1}, [Fault("web", "stale", "bytes 3 -> 4")])
    found = stand(job_status.read(snapshot(run)), download=stale, preprocess=DONE, train=DONE)
    assert found["download"].state == "stale"
    assert (found["preprocess"].state, found["preprocess"].reason) == (
        "stale", "download, before it, is stale",
    )  # fmt: skip
    assert found["train"].state == "done"  # it keeps to the tokens it began with


def test_before_anything_ran_nothing_is_begun(run: Run) -> None:
    found = stand(job_status.read(snapshot(run)), download=NONE, preprocess=WAITS)
    assert {one.state for one in found.values()} == {"not begun"}


def test_a_finished_training_that_is_to_go_on_is_incomplete(run: Run) -> None:
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    write_json(run.attempt(1).end, {"outcome": "done", "step": 10})
    submission = job_status.read(snapshot(run))
    surveys = {"tokenize": DONE, "train": NONE, "evaluate": DONE}
    found = stage_status.of_chain(submission, surveys)
    assert [one.state for one in found] == ["done", "incomplete", "stale"]
    assert found[2].reason == "train, before it, is incomplete"


def test_of_several_ranks_the_log_is_that_of_the_one_that_raised(run: Run) -> None:
    log(run, "train", "17_0", "waits for the others")
    raised = log(run, "train", "17_1", "Traceback (most recent call last)", "KeyError: 3")
    decided(run, "train", "17.0", "crash, 4 times without a new checkpoint (exit code 1)")
    found = stage_status.of_chain(job_status.read(snapshot(run)), {"train": NONE})[0]
    assert str(found.log) == raised


def test_a_stage_that_a_process_has_made_is_done_while_it_makes_the_next(run: Run) -> None:
    announced(run, "download", "preprocess", "tokenizer", begun="preprocess")
    with lock.hold(run):
        found = stand(job_status.read(snapshot(run)))
    assert [one.state for one in found.values()] == ["done", "running", "queued"]
    assert found["tokenizer"].reason == "after preprocess"


def test_an_end_that_the_exit_trap_recorded_counts_before_slurm_is_asked_again(run: Run) -> None:
    submitted = replace(snapshot(run), submitted=Submitted(slurm={"train": "17"}))
    asked = time.time() - 30
    answer = QueueAnswer({"17": [element("17", "RUNNING")]}, frozenset({"17"}), asked)
    before = job_status.Submission(submitted, answer, None)
    assert stage_status.of_chain(before, {"train": NONE})[0].state == "running"
    decided(run, "train", "17.0", "preemption", requeued=True)
    seen = replace(submitted, decisions=snapshot(run).decisions)
    found = stage_status.of_chain(replace(before, seen=seen), {"train": NONE})[0]
    assert (found.state, found.reason) == (
        "queued", "requeued after preemption; Slurm: not asked since",
    )  # fmt: skip
    decided(run, "train", "17.1", "crash, 4 times without a new checkpoint (exit code 1)")
    seen = replace(submitted, decisions=snapshot(run).decisions)
    ended = replace(before, seen=seen)
    assert not job_status.is_alive(ended, "train")
    assert stage_status.of_chain(ended, {"train": NONE})[0].state == "failed"


def test_a_job_that_squeue_has_forgotten_is_looked_up_in_the_accounting_once(run: Run) -> None:
    asked = []

    def records() -> dict[str, list[Element]]:
        asked.append(1)
        return {"18": [element("18_1", "OUT_OF_MEMORY", ended=9.0)]}

    known = on_slurm(run)
    found = stand(replace(known, queue=replace(known.queue, records=records)), tokenizer=DONE)
    assert found["preprocess"].state == "failed"
    assert found["preprocess"].reason == "Slurm: OUT_OF_MEMORY"
    assert found["preprocess"].job == "job 18_1"
    assert len(asked) == 1  # not for stages that are done


def test_while_slurm_is_silent_a_recorded_end_of_the_training_is_told(run: Run) -> None:
    decided(run, "train", "17.0", "crash, 4 times without a new checkpoint (exit code 1)")
    decided(run, "preprocess", "18_1.2", "failed 3 times (exit code 1)")
    silent = on_slurm(run, silent="squeue: no answer in 5 s")
    seen = replace(silent.seen, submitted=Submitted(slurm={"train": "17", "preprocess": "18"}))
    found = stage_status.of_chain(replace(silent, seen=seen), {"preprocess": NONE, "train": NONE})
    assert [one.state for one in found] == ["unknown", "failed"]
    assert found[0].reason == (
        "squeue: no answer in 5 s; a task has failed: failed 3 times (exit code 1)"
    )


def test_an_old_failure_that_a_later_submission_mended_is_over(run: Run) -> None:
    decided(run, "preprocess", "18_1.2", "failed 3 times (exit code 1)")
    time.sleep(0.01)
    sent = {"preprocess": {"time": time.time()}}
    write_json(run.jobs, {"cluster": "c", "time": time.time(), "slurm": {}, "sent": sent})
    mixed = Survey({"done": 0, "missing": 1, "stale": 1}, [Fault("a", "stale", "bytes 3 -> 4")])
    found = stand(job_status.read(snapshot(run)), preprocess=mixed)["preprocess"]
    assert (found.state, found.reason) == ("stale", None)


def test_once_training_is_done_nothing_before_it_matters(run: Run) -> None:
    gone = Survey({}, waits="web.txt: no such file")
    found = stand(job_status.read(snapshot(run)), download=gone, train=DONE, evaluate=DONE)
    assert [found[name].state for name in ("download", "train", "evaluate")] == [
        "broken", "done", "done",
    ]  # fmt: skip


def test_a_line_of_status_says_that_the_training_is_done() -> None:
    training = {"step": 100, "steps": 100, "loss": 5.6258, "tokens_per_second": 6182.0}
    line = status.headline({"state": "done", **training})
    assert line == "step 100 of 100, loss 5.626, 6,182 tokens/s; done"
    assert status.headline({"state": "done", "done": 6}) == "6 done"


@pytest.mark.parametrize(("step", "end"), [(100, "2.429 bits per byte"), (140, " at step 100")])
def test_scores_of_an_earlier_step_say_so(step: int, end: str) -> None:
    scores = {"perplexity": 285.4, "unigram_perplexity": 479.7, "bits_per_byte": 2.4286}
    last = {"step": step, "loss": 5.6}
    facts = {"first": last, "last": last, "validation": None, "requeues": [], "stages": {}}
    lines = [*report._training(facts | {"scores": scores | {"step": 100}})]
    assert lines[-1].endswith(end)
