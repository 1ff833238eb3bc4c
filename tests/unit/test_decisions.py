"""Who is requeued: the decision on every way a job can end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions
from kit.cluster.decisions import Decision
from kit.cluster.jobs import Job, clear_previous_outcome
from kit.cluster.oom_killer import OomKill
from kit.cluster.restart_rules import decide_task, decide_training
from kit.cluster.snapshot import snapshot
from kit.cluster.state import JobState
from kit.config.cluster import Cluster, TaskResources, TrainingResources
from kit.store.files import read_json, write_json
from kit.training.interruption import Reason

if TYPE_CHECKING:
    from kit.store.paths import Run

JOB = "17.0"
FAR, NEAR = 3_000.0, 30.0  # seconds to the time limit

CLUSTER = Cluster(
    name="mdx",
    kind="slurm",
    arrays=TaskResources(retries=2),
    training=TrainingResources(ranks_per_node=2, failures=2),
)


HERE = Cluster(
    name="local",
    kind="local",
    arrays=TaskResources(retries=2, parallel=4),
    training=TrainingResources(ranks_per_node=2, failures=2),
)


def slurm(
    state: str = "RUNNING", *, preempted: bool = False, left: float | None = FAR, **more: Any
) -> JobState:
    return JobState(state, preempted=preempted, seconds_left=left, **more)


def ended(run: Run, outcome: str, reason: str | None = None, job: str = JOB) -> None:
    """The end.json that an attempt leaves behind."""
    number = len(list(run.attempts.iterdir())) + 1
    facts = {"job": job, "outcome": outcome, "step": 5, "saved": 5, "reason": reason}
    write_json(run.attempt(number).end, facts)


def hung(run: Run, job: str = JOB) -> None:
    """The hang.json that an attempt leaves behind."""
    number = len(list(run.attempts.iterdir())) + 1
    write_json(
        run.attempt(number).hang, {"job": job, "rank": 1, "what": "step 7", "seconds": 601.0}
    )


def decide(run: Run, code: int, state: JobState, job: str = JOB) -> Decision:
    """A decision, on record as the trap leaves it."""
    decision = decide_training(run, lambda: CLUSTER, job, code, state)
    decisions.record(run, job, "train", decision)
    return decision


def task(
    run: Run,
    code: int,
    restarts: int = 0,
    state: JobState | None = None,
    cluster: Cluster = CLUSTER,
) -> Decision:
    """A decision over a task of an array, on record as the trap leaves it."""
    job = f"9.{restarts}"
    decision = decide_task(run, lambda: cluster, "preprocess", job, code, state or slurm())
    decisions.record(run, job, "preprocess", decision)
    return decision


def crash(run: Run, job: str = JOB) -> Decision:
    return decide(run, 1, slurm(), job)


def commit_checkpoint(run: Run, step: int, attempt: int = 1) -> None:
    (run.checkpoints / f"step-{step:08d}.attempt-{attempt:04d}").mkdir()


def test_a_run_that_is_done_is_not_requeued(run: Run) -> None:
    ended(run, "done")
    assert decide(run, 0, slurm("COMPLETING")) == Decision(False, "done")


def test_a_run_that_was_done_as_preemption_came_is_not_requeued(run: Run) -> None:
    ended(run, "done")
    assert decide(run, 0, slurm(preempted=True)) == Decision(False, "done")


@pytest.mark.parametrize("reason", ["SIGTERM", "time limit"])
@pytest.mark.parametrize("left", [FAR, NEAR, None])
def test_a_preempted_run_that_saved_is_requeued(run: Run, reason: str, left: float | None) -> None:
    ended(run, "interrupted", reason)
    assert decide(run, 75, slurm(preempted=True, left=left)) == Decision(True, "preemption")


def test_a_preempted_run_that_had_no_time_to_save_is_requeued(run: Run) -> None:
    assert decide(run, 137, slurm(preempted=True)) == Decision(True, "preemption")


# As seen on Slurm 22.05; a model's own text, and words of an earlier start, say nothing.
KILLED = "slurmstepd-mdx1: error: Detected 1 oom-kill event(s) in StepId=17.0. Some of your processes may"
KILLED_STEP = "srun: error: mdx1: task 0: Out Of Memory"


@pytest.mark.parametrize(
    ("name", "lines", "killed"),
    [
        ("17_0_log.out", ["train: job 17.0 on mdx1", KILLED], True),
        ("17_0_log.out", [*["x" * 1000] * 70, KILLED], True),
        ("17_0_log.out", [KILLED, "train: job 17.0 on mdx1", "sample: 'Out Of Memory'"], False),
        ("16_0_log.out", ["train: job 17.0 on mdx1", KILLED], False),
        ("srun.out", [KILLED_STEP], True),
    ],
)
def test_a_run_that_slurm_kills_for_its_memory_is_not_requeued_until_it_has_made_a_step(
    run: Run, name: str, lines: list[str], killed: bool
) -> None:
    write_json(run.recipe, {"training": {"micro_batch": 13}})
    run.job_logs("train").mkdir(parents=True)
    (run.job_logs("train") / name).write_text("".join(f"{line}\n" for line in lines))
    decision = crash(run)
    assert decision.requeue is not killed
    said = (
        "training.micro_batch=13: does not fit into the memory of the job (killed at its memory limit); "
        "lower it, raise cluster.training.memory_gb, or use fewer ranks on a node"
    )
    assert decision.reason == (said if killed else "crash (exit code 1)")
    commit_checkpoint(run, 5)
    how = "killed at its memory limit" if killed else "exit code 1"
    assert crash(run) == Decision(True, f"crash ({how})")
    write_json(run.identity, {"rehearsal_of": "demo"})
    assert crash(run).requeue is not killed


def test_a_task_that_slurm_kills_for_its_memory_ends_with_the_key_to_raise(run: Run) -> None:
    run.job_logs("preprocess").mkdir(parents=True)
    (run.job_logs("preprocess") / "9_0_log.out").write_text(f"{KILLED}\n")
    first, _, last = (task(run, 1, restarts) for restarts in range(3))
    assert first == Decision(True, "failed (killed at its memory limit)")
    assert last == Decision(
        False, "failed 3 times (killed at its memory limit); raise cluster.arrays.memory_gb"
    )


def test_a_rank_that_this_machine_killed_for_its_memory_is_not_restarted_until_the_run_has_made_a_step(
    run: Run,
) -> None:
    write_json(run.recipe, {"training": {"micro_batch": 13}})
    certain = OomKill("rank 1", "killed for lack of memory", "the log: 9 GB")
    more = "use fewer ranks, or give them more memory"

    def killed(oom: OomKill) -> Decision:
        state = JobState("RUNNING", oom=oom)
        decision = decide_training(run, lambda: HERE, JOB, 137, state)
        decisions.record(run, JOB, "train", decision)
        return decision

    said = "training.micro_batch=13: does not fit into the memory of rank 1 (killed for lack of memory; "
    assert killed(certain) == Decision(False, f"{said}the log: 9 GB); lower it, {more}")
    perhaps = replace(certain, how="perhaps killed for lack of memory", certain=False)
    assert killed(perhaps) == Decision(True, "crash (perhaps killed for lack of memory)")
    commit_checkpoint(run, 5)
    again = Decision(True, "crash (killed for lack of memory)")
    first, second, last = (killed(certain) for _ in range(3))
    assert first == second == again
    text = (
        "crash, 3 times without a new checkpoint (rank 1 killed for lack of memory; the log: 9 GB)"
    )
    assert last == Decision(False, f"{text}; lower training.micro_batch, {more}")


def test_a_task_that_this_machine_killed_for_its_memory_ends_with_the_key_to_lower(
    run: Run,
) -> None:
    state = JobState("RUNNING", oom=OomKill("the task", "killed for lack of memory", "the log"))
    one, _, last = (task(run, 137, n, state, HERE) for n in range(3))
    assert one == Decision(True, "failed (killed for lack of memory)")
    text = "failed 3 times (killed for lack of memory; the log); "
    more = "lower cluster.arrays.parallel=4, or give tasks more memory"
    assert last == Decision(False, text + more)


@pytest.mark.parametrize("left", [FAR, NEAR, None])
def test_a_warning_of_the_time_limit_requeues(run: Run, left: float | None) -> None:
    ended(run, "interrupted", "time limit")
    assert decide(run, 75, slurm(left=left)) == Decision(True, "time limit")


def test_a_sigusr2_without_a_limit_or_a_preemption_requeues_under_its_own_name(run: Run) -> None:
    ended(run, "interrupted", "SIGUSR2")
    assert decide(run, 75, slurm(left=FAR)) == Decision(True, "SIGUSR2")
    assert decide(run, 75, slurm(preempted=True)) == Decision(True, "preemption")


def test_a_sigterm_near_the_time_limit_requeues(run: Run) -> None:
    ended(run, "interrupted", "SIGTERM")
    assert decide(run, 75, slurm(left=NEAR)) == Decision(True, "time limit")


def test_a_run_killed_at_the_time_limit_is_requeued(run: Run) -> None:
    assert decide(run, 137, slurm("COMPLETING", reason="TimeLimit")) == Decision(True, "time limit")


@pytest.mark.parametrize("left", [FAR, None])
def test_a_sigterm_far_from_the_time_limit_is_the_users_scancel(
    run: Run, left: float | None
) -> None:
    ended(run, "interrupted", "SIGTERM")
    assert decide(run, 75, slurm(left=left)) == Decision(False, "cancelled")


def test_a_sigterm_soon_after_a_requeue_was_meant_for_the_start_before(run: Run) -> None:
    soon = {"seconds_run": 60.0}
    ended(run, "interrupted", "SIGTERM", "17.1")
    assert decide(run, 75, slurm(**soon), "17.1") == Decision(True, "SIGTERM")
    assert decide(run, 75, slurm("COMPLETING", **soon), "17.1") == Decision(False, "cancelled")
    assert decide(run, 75, slurm(preempted=True, **soon), "17.1") == Decision(True, "preemption")


@pytest.mark.parametrize(("job", "seconds"), [("17.0", 60.0), ("17.1", 3000.0), ("17.1", None)])
def test_a_sigterm_to_a_first_or_an_old_start_is_the_users(
    run: Run, job: str, seconds: float | None
) -> None:
    ended(run, "interrupted", "SIGTERM", job)
    assert decide(run, 75, slurm(seconds_run=seconds), job) == Decision(False, "cancelled")


def test_a_job_that_gets_a_sigterm_after_each_requeue_ends(run: Run) -> None:
    soon = slurm(seconds_run=60.0)
    for number in (1, 2):
        ended(run, "interrupted", "SIGTERM", f"17.{number}")
        assert decide(run, 75, soon, f"17.{number}").requeue
    ended(run, "interrupted", "SIGTERM", "17.3")
    assert decide(run, 75, soon, "17.3") == Decision(
        False, "SIGTERM, 3 times without a new checkpoint"
    )
    commit_checkpoint(run, 5)
    assert decide(run, 75, soon, "17.3").requeue


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING"])
def test_a_cancelled_run_that_left_nothing_is_not_requeued(run: Run, state: str) -> None:
    assert decide(run, 137, slurm(state)) == Decision(False, "cancelled")
    assert decide(run, 137, slurm(state, left=NEAR)) == Decision(False, "cancelled")


def test_a_scancel_during_a_preemption_is_a_scancel(run: Run) -> None:
    ended(run, "interrupted", "SIGTERM")
    assert decide(run, 75, slurm("COMPLETING")) == Decision(False, "cancelled")


@pytest.mark.parametrize("reason", [None, "SIGTERM", "time limit"])
def test_what_slurm_cancels_for_a_preemption_is_requeued(run: Run, reason: str | None) -> None:
    if reason:
        ended(run, "interrupted", reason)
    cancelled = slurm("COMPLETING", preempted=True, left=0.0)
    assert decide(run, 75, cancelled) == Decision(True, "preemption")
    assert task(run, 143, state=cancelled) == Decision(True, "preemption")


def test_a_warning_that_is_none_of_the_time_limit_requeues(run: Run) -> None:
    ended(run, "interrupted", Reason.WARNED.text)
    assert decide(run, 75, slurm(preempted=True)) == Decision(True, "preemption")
    assert decide(run, 75, slurm()) == Decision(True, "SIGUSR2")


@pytest.mark.parametrize("preempted", [False, True])
@pytest.mark.parametrize("left", [FAR, NEAR])
def test_a_run_that_its_user_cancelled_is_not_requeued_whatever_happens_beside_it(
    run: Run, left: float, preempted: bool
) -> None:
    ended(run, "interrupted", Reason.CANCELLED.text)
    cancelled = Decision(False, "cancelled")
    assert decide(run, 75, slurm(preempted=preempted, left=left)) == cancelled


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "RUNNING"])
@pytest.mark.parametrize("reason", [None, "SIGTERM", "time limit"])
def test_what_slurm_has_requeued_is_not_requeued_again(
    run: Run, state: str, reason: str | None
) -> None:
    # RUNNING is the newer start, on another node, while the older one's processes still lived.
    if reason:
        ended(run, "interrupted", reason)
    newer = slurm(state, restarts=1, preempted=True, left=NEAR)
    assert decide(run, 137, newer) == Decision(False, "requeued by Slurm")
    assert task(run, 137, state=newer) == Decision(False, "requeued by Slurm")


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        ("stopped", "STOP file", "stopped: STOP file"),
        ("failed", "20 saves failed", "failed: 20 saves failed"),
        ("superseded", "attempt 3 exists", "superseded by a newer attempt"),
    ],
)
@pytest.mark.parametrize(
    "state",
    [slurm(), slurm(preempted=True), slurm(left=NEAR), slurm("COMPLETING", reason="TimeLimit")],
)
def test_what_ended_for_good_is_never_requeued(
    run: Run, outcome: str, reason: str, said: str, state: JobState
) -> None:
    ended(run, outcome, reason)
    assert decide(run, 75, state) == Decision(False, said)


def test_a_hang_spends_the_budget_of_crashes(run: Run) -> None:
    hung(run)
    assert decide(run, 1, slurm()) == Decision(True, "hang (rank 1, step 7)")
    assert crash(run, "17.1").requeue
    hung(run, "17.2")
    said = "hang (rank 1, step 7), 3 times without a new checkpoint (exit code 1)"
    assert decide(run, 1, slurm(), "17.2") == Decision(False, said)


def test_a_hang_near_the_time_limit_is_a_hang(run: Run) -> None:
    hung(run)
    assert decide(run, 1, slurm(left=NEAR)).reason.startswith("hang")


def test_a_hang_of_an_earlier_start_says_nothing_of_this_one(run: Run) -> None:
    hung(run, "16.0")
    assert decide(run, 1, slurm()) == Decision(True, "crash (exit code 1)")


def test_a_hang_that_a_preemption_ended_is_a_preemption(run: Run) -> None:
    hung(run)
    assert decide(run, 1, slurm(preempted=True)) == Decision(True, "preemption")


def submitted(run: Run) -> None:
    write_json(run.jobs, {"cluster": "mdx", "time": time.time(), "slurm": {"train": "17"}})


def test_a_run_says_why_it_stopped_until_it_is_submitted_again(run: Run) -> None:
    submitted(run)
    assert snapshot(run).verdict is None
    ended(run, "stopped", "STOP file")
    decide(run, 75, slurm())
    assert snapshot(run).verdict == "STOP file"
    submitted(run)
    assert snapshot(run).verdict is None


def test_the_end_of_a_start_that_was_taken_for_lost_is_not_the_end_of_the_run(run: Run) -> None:
    submitted(run)
    ended(run, "superseded", "attempt 2 exists")
    decide(run, 75, slurm(restarts=1))
    decide(run, 137, slurm("RUNNING", restarts=1))
    assert snapshot(run).verdict is None
    decide(run, 75, slurm("COMPLETING"), "17.1")
    assert snapshot(run).verdict == "cancelled"


def test_the_end_of_an_earlier_start_says_nothing_of_this_one(run: Run) -> None:
    ended(run, "interrupted", "SIGTERM", job="17.0")
    ended(run, "done", job="16.0")
    decision = decide(run, 1, slurm(), job="17.1")
    assert decision == Decision(True, "crash (exit code 1)")


def test_a_crash_is_requeued_until_the_budget_is_spent(run: Run) -> None:
    assert [crash(run).requeue for _ in range(3)] == [True, True, False]
    assert "3 times without a new checkpoint (exit code 1)" in crash_reasons(run)[-1]


def crash_reasons(run: Run) -> list[str]:
    return [row["reason"] for row in decisions.read(run)]


def unfit(run: Run, node: str, job: str) -> Decision:
    """A start that a check refused, on a node that it named."""
    checks = [{"name": "gpu_ecc", "result": "bad", "found": "GPU 3: 1 error", "remedy": ""}]
    record = {"job": job, "node": node, "verdict": "bad", "checks": checks}
    write_json(run.preflight("train", job, node), record)
    write_json(run.preflight("train", job, "other"), record | {"node": "other", "verdict": "ok"})
    return decide(run, 1, slurm(), job)


def test_an_unfit_node_is_named_and_costs_nothing_while_others_take_its_place(run: Run) -> None:
    for number in range(5):
        decision = unfit(run, f"mdx{number}", f"17.{number}")
        reason = f"preflight (mdx{number}: gpu_ecc: GPU 3: 1 error)"
        assert decision == Decision(True, reason, (f"mdx{number}",))
    assert [row["unfit"] for row in decisions.read(run)] == [
        [f"mdx{number}"] for number in range(5)
    ]
    assert [crash(run, f"17.{number}").requeue for number in (5, 6, 7)] == [True, True, False]


def test_an_unfit_node_that_no_other_can_replace_ends_the_run_in_the_end(run: Run) -> None:
    found = [unfit(run, "mdx1", f"17.{number}") for number in range(4)]
    assert [decision.requeue for decision in found] == [True, True, True, False]
    assert found[-1].reason.endswith("GPU 3: 1 error), 3 times without another node")


def test_a_start_that_was_cancelled_or_preempted_while_it_was_refused_is_so(run: Run) -> None:
    unfit(run, "mdx1", "17.0")
    write_json(
        run.preflight("train", "17.1", "mdx1"), read_json(run.preflight("train", "17.0", "mdx1"))
    )
    assert decide(run, 143, slurm("COMPLETING"), "17.1") == Decision(False, decisions.CANCELLED)
    assert decide(run, 143, slurm(preempted=True), "17.1") == Decision(True, "preemption")


def test_a_new_checkpoint_renews_the_budget(run: Run) -> None:
    commit_checkpoint(run, 50)
    assert [crash(run).requeue for _ in range(2)] == [True, True]
    commit_checkpoint(run, 100)
    assert [crash(run).requeue for _ in range(3)] == [True, True, False]


def test_a_checkpoint_of_a_newer_attempt_renews_the_budget_whatever_an_older_one_left(
    run: Run,
) -> None:
    commit_checkpoint(run, 50, attempt=1)
    commit_checkpoint(run, 100, attempt=1)  # by a node that was taken for lost
    assert [crash(run).requeue for _ in range(2)] == [True, True]
    commit_checkpoint(run, 60, attempt=2)
    assert crash(run).requeue


def test_the_same_checkpoint_put_aside_renews_nothing(run: Run) -> None:
    commit_checkpoint(run, 50)
    commit_checkpoint(run, 100)
    assert [crash(run).requeue for _ in range(2)] == [True, True]
    newest = run.checkpoints / "step-00000100.attempt-0001"
    newest.rename(run.checkpoints / "broken-step-00000100.attempt-0001")
    assert not crash(run).requeue


@pytest.mark.parametrize("between", ["preemption", "time limit"])
def test_a_preemption_between_crashes_neither_spends_nor_renews_the_budget(
    run: Run, between: str
) -> None:
    state = slurm(preempted=True) if between == "preemption" else slurm(left=NEAR)
    found = []
    for _ in range(2):
        found.append(crash(run).requeue)
        assert decide(run, 137, state) == Decision(True, between)
    assert [*found, crash(run).requeue] == [True, True, False]


def test_a_new_submission_has_a_budget_of_its_own(run: Run) -> None:
    while crash(run).requeue:
        pass
    assert decide(run, 1, slurm(), job="18.0").requeue


def test_a_job_of_one_unit_does_not_meet_its_time_limit_for_ever(run: Run) -> None:
    limit = slurm("COMPLETING", reason="TimeLimit")
    found = []
    for restarts in range(3):
        decision = decide_task(run, lambda: CLUSTER, "tokenizer", f"9.{restarts}", 143, limit)
        decisions.record(run, f"9.{restarts}", "tokenizer", decision)
        found.append(decision.requeue)
    assert found == [True, True, False]
    said = (
        "failed 3 times (exit code 143, time limit); raise cluster.arrays.minutes=60 to 120 or more"
    )
    assert decisions.read(run)[-1]["reason"] == said


def begins_units(run: Run, token: str, number: int) -> None:
    """The log of a start of a task that begins so many units, and finishes all of them but the last."""
    log = run.job_logs("preprocess") / f"{token.split('.', maxsplit=1)[0]}_0_log.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    clock = "2026-11-29 10:00:00"
    lines = [f"{clock} preprocess: job {token} on mdx1"]
    lines += [f"{clock} preprocess: wiki-{n} ({n} of 1,200)" for n in range(1, number + 1)]
    with log.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def test_a_task_that_finishes_units_meets_its_time_limit_as_often_as_it_likes(run: Run) -> None:
    for restarts in range(5):
        begins_units(run, f"9.{restarts}", 2)
        found = task(run, 143, restarts, slurm("COMPLETING", reason="TimeLimit"))
        assert found == Decision(True, "time limit")


def test_a_task_that_never_finishes_a_unit_ends_with_the_key_to_raise(run: Run) -> None:
    limit, found = slurm("COMPLETING", reason="TimeLimit"), []
    for restarts, begun in enumerate((1, 1, 2, 1, 0, 1)):
        begins_units(run, f"9.{restarts}", begun)
        decision = task(run, 143, restarts, limit)
        found.append((decision.requeue, decision.reason.split(";")[0]))
    before = "time limit before a unit was finished"
    assert found == [
        (True, before), (True, before), (True, "time limit"), (True, before), (True, before),
        (False, f"{before}, 3 times"),
    ]  # fmt: skip
    assert decision.reason.endswith("; raise cluster.arrays.minutes=60 to 120 or more")
    other = decide_task(run, lambda: CLUSTER, "preprocess", "9_1.0", 143, limit)
    assert other.requeue


@pytest.mark.parametrize("saved", [False, True])
def test_a_limit_shorter_than_a_start_ends_with_the_key_to_raise(run: Run, saved: bool) -> None:
    if saved:
        commit_checkpoint(run, 50, attempt=1)
        decide(run, 75, slurm(left=NEAR))
    found = []
    for restarts in range(3):
        ended(run, "interrupted", "time limit", f"17.{restarts}")
        decide(run, 143, slurm(preempted=True), f"17.{restarts}")  # neither spends nor renews
        found.append(decide(run, 75, slurm(left=NEAR), f"17.{restarts}"))
    assert found[:2] == [Decision(True, "time limit")] * 2
    assert not found[2].requeue
    said = found[2].reason
    assert said.startswith(
        "time limit, 3 times without a new checkpoint: cluster.training.minutes=60 "
    )
    assert said.endswith("amend it to 120 or more")
    assert decide(run, 75, slurm(left=NEAR), "18.0").requeue  # a new submission


def test_a_new_checkpoint_renews_the_budget_of_time_limits(run: Run) -> None:
    for step in range(10, 100, 10):
        commit_checkpoint(run, step)
        assert decide(run, 75, slurm(left=NEAR)).requeue
        assert decide(run, 75, slurm(left=NEAR)).requeue


def test_a_successor_shares_the_budgets_of_the_job_before_it(run: Run) -> None:
    for job in ("17.0", "18.0"):
        decision = decide_training(run, lambda: CLUSTER, job, 1, slurm())
        number = str(int(job.split(".")[0]) + 1)
        decisions.record(run, job, "train", decision, successor=number)
        assert decision.requeue
    assert decisions.read(run)[-1].get("successor") == "19"
    assert not crash(run, "19.0").requeue
    assert crash(run, "20.0").requeue


def test_a_garbled_line_hides_no_other_decision(run: Run) -> None:
    crash(run)
    with run.requeues.open("a", encoding="utf-8") as out:
        out.write('{"time": 1, {"time": 2}\n')
    crash(run)
    assert len(decisions.read(run)) == 2


def test_decisions_over_other_jobs_do_not_count(run: Run) -> None:
    for _ in range(5):
        decisions.record(run, "3.0", "preprocess", Decision(True, "crash (exit code 1)"))
    assert crash(run).requeue


def fail(run: Run, name: str, job: str) -> None:
    message = {"job": job, "message": "corpus.held_out: raise it"}
    write_json(run.mistake(name), message)


def test_a_mistake_of_the_users_is_never_retried(run: Run) -> None:
    fail(run, "train", JOB)
    for state in (slurm(), slurm(preempted=True), slurm(left=NEAR)):
        assert decide(run, 2, state) == Decision(False, "corpus.held_out: raise it")


def test_a_mistake_of_an_earlier_start_does_not_stop_this_one(run: Run) -> None:
    fail(run, "train", "16.0")
    assert decide(run, 1, slurm()).requeue


def test_a_task_that_is_done_is_not_retried(run: Run) -> None:
    assert task(run, 0) == Decision(False, "done")


def test_a_failed_task_is_retried_as_often_as_the_cluster_says(run: Run) -> None:
    found = [task(run, 1, restarts).requeue for restarts in (0, 1, 2)]
    assert found == [True, True, False]
    assert decisions.read(run)[-1]["reason"] == "failed 3 times (exit code 1)"


def test_preemptions_of_a_task_spend_none_of_its_retries(run: Run) -> None:
    gone = slurm(preempted=True)
    found = [task(run, 143, restarts, gone).requeue for restarts in range(5)]
    assert found == [True] * 5
    assert task(run, 1, restarts=5).requeue


def test_a_task_that_met_a_mistake_of_the_users_is_not_retried(run: Run) -> None:
    fail(run, "preprocess", "9.0")
    found = task(run, 2)
    assert found == Decision(False, "corpus.held_out: raise it")


def test_a_new_submission_of_training_removes_a_stop(run: Run) -> None:
    run.stop.touch()
    clear_previous_outcome(run, [Job("tokenize", lambda run, task, tasks: None, 4, "arrays")])
    assert run.stop.exists()
    clear_previous_outcome(run, [Job("train", lambda run, task, tasks: None, 1, "training")])
    assert not run.stop.exists()


def test_a_new_submission_forgets_old_mistakes(run: Run) -> None:
    fail(run, "preprocess", "9.0")
    clear_previous_outcome(run, [Job("preprocess", lambda run, task, tasks: None)])
    assert task(run, 1).requeue


def test_decisions_are_kept_in_order_with_their_reasons(run: Run) -> None:
    crash(run)
    decide(run, 75, slurm(preempted=True))
    rows = decisions.read(run)
    assert [(row["name"], row["job"], row["requeued"]) for row in rows] == [
        ("train", JOB, True), ("train", JOB, True),
    ]  # fmt: skip
    assert [row["reason"] for row in rows] == ["crash (exit code 1)", "preemption"]


def test_a_scancel_near_the_time_limit_is_a_scancel(run: Run) -> None:
    ended(run, "interrupted", "SIGTERM")
    assert decide(run, 75, slurm("CANCELLED", left=NEAR)) == Decision(False, "cancelled")


def test_a_decision_that_was_cut_while_it_was_written_does_not_stop_the_next(run: Run) -> None:
    crash(run)
    with run.requeues.open("a", encoding="utf-8") as out:
        out.write('{"time": 1.0, "job": "17.0", "na')
    assert crash(run).requeue
    assert [row["reason"] for row in decisions.read(run)] == ["crash (exit code 1)"] * 2


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("done", slurm()),
        ("stopped", slurm()),
        ("interrupted", slurm(preempted=True)),
        ("interrupted", slurm(left=NEAR)),
        ("interrupted", slurm("COMPLETING")),
    ],
)
def test_the_cluster_is_read_only_where_the_decision_depends_on_it(
    run: Run, outcome: str, state: JobState
) -> None:
    def cluster() -> Cluster:
        raise AssertionError("the cluster was read")

    ended(run, outcome, "time")
    decide_training(run, cluster, JOB, 75, state)
    with pytest.raises(AssertionError, match="was read"):
        decide_training(run, cluster, "18.0", 1, slurm())
