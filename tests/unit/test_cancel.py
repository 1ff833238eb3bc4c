"""What `cancel` refuses, and what it says; tests/slurm and tests/end_to_end cancel runs."""

from __future__ import annotations

import signal
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import lock, slurm_cancel
from kit.cluster.jobs import user_signal
from kit.cluster.state import Element
from kit.errors import RunError
from kit.relay import cancelling
from kit.store.files import write_json, write_text
from tests.conftest import ROOT

if TYPE_CHECKING:
    from kit.store.paths import Run


def announced(run: Run, begun: str, node: str) -> None:
    """A process of a machine that works on the training and what comes after it."""
    jobs: list[dict[str, Any]] = [
        {"name": name, "tasks": [0], "resources": "single"}
        for name in ("download", "train", "evaluate")
    ]
    for job in jobs[: 1 + [job["name"] for job in jobs].index(begun)]:
        job["begun"] = time.time()
    write_json(run.jobs, {"cluster": "local", "time": time.time(), "local": jobs, "node": node})


def cancel(run: Run, *names: str) -> dict[str, Any]:
    project: Any = SimpleNamespace(run=run, cluster=SimpleNamespace(is_this_machine=True))
    return cancelling.cancel(project, names or None, ["train", "demo"], print)


def test_nothing_to_cancel_is_no_error(run: Run) -> None:
    facts = cancel(run)
    assert facts == {"run": str(run.root), "cancelled": [], "next": None}
    (line,) = cancelling.lines(facts)
    assert line.startswith(f"{run.root}: nothing to cancel")


def test_a_process_of_another_machine_is_refused_with_where_to_go(run: Run) -> None:
    announced(run, "train", "n7")
    write_text(run.supervisor, "1234")
    with pytest.raises(RunError, match=r"process 1234 of n7 runs it.*: ssh n7 kill 1234"):
        cancel(run)


def test_a_process_that_was_killed_on_this_machine_is_nothing_to_cancel(run: Run) -> None:
    announced(run, "train", socket.gethostname())
    write_text(run.supervisor, "1234567890")
    assert cancel(run)["cancelled"] == []


def test_a_stage_is_not_cancelled_alone_while_its_process_is_at_work_on_one_before_it(
    run: Run,
) -> None:
    announced(run, "train", socket.gethostname())
    with lock.hold(run):
        with pytest.raises(RunError, match="is running train, before evaluate"):
            cancel(run, "evaluate")
        assert cancel(run, "download")["cancelled"] == []  # it is over


def test_ranks_of_an_earlier_version_get_the_signal_that_they_know(run: Run) -> None:
    code = run.code / "kit/training/interruption.py"
    code.parent.mkdir(parents=True)
    code.write_text((ROOT / "kit/training/interruption.py").read_text())
    assert user_signal(run) is signal.SIGINT
    code.write_text("SIGNALS = {signal.SIGUSR2: Reason.TIME_LIMIT, signal.SIGTERM: Reason.SIGTERM}")
    assert user_signal(run) is signal.SIGTERM


def test_a_training_job_has_something_to_save_once_its_ranks_have_begun(run: Run) -> None:
    assert not slurm_cancel.has_begun(run, "17")
    run.attempt(1).root.mkdir()
    assert not slurm_cancel.has_begun(run, "17")
    write_json(run.attempt(1).start, {"job": "17.0"})
    assert slurm_cancel.has_begun(run, "17")
    assert not slurm_cancel.has_begun(run, "1")
    write_json(run.attempt(1).end, {"job": "17.0"})
    assert not slurm_cancel.has_begun(run, "17")


def test_what_was_done_is_said_job_by_job(run: Run) -> None:
    running = {"job": "job 17", "before": "running"}
    facts = {
        "run": "r",
        "cancelled": [
            {"stage": "count", "job": "job 16", "before": "3 tasks running, others queued"},
            {"stage": "train", **running, "saved": 1200, "reached": 1203},
            {"stage": "train", **running, "saved": None, "reached": None},
            {"stage": "evaluate", "step": 80, "job": "job 18", "before": "queued"},
        ],
        "next": "ekiden train submit demo",
    }
    assert [*cancelling.lines(facts)] == [
        "count: job 16 was 3 tasks running, others queued; cancelled",
        "train: job 17 was running; cancelled at step 1,203, saved up to step 1,200",
        "train: job 17 was running; cancelled, before its first checkpoint",
        "evaluate of step 80: job 18 was queued; cancelled",
        "r: nothing of it is queued or running now; to resume:",
        "ekiden train submit demo",
    ]


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (["RUNNING"], "running"),
        (["PENDING"], "queued"),
        (["RUNNING", "COMPLETING", "PENDING"], "2 tasks running, others queued"),
        (["RUNNING", "RUNNING"], "2 tasks running"),
        (["PENDING", "PENDING"], "queued"),
    ],
)
def test_the_state_of_an_array_is_that_of_its_tasks(states: list[str], words: str) -> None:
    elements = [
        Element(f"17_{i}", state, "None", None, None, None) for i, state in enumerate(states)
    ]
    assert slurm_cancel.describe(elements) == words
