"""Slurm's words for why a job waits, and what its accounting says of ends."""

from __future__ import annotations

import os

import pytest

from kit.cluster import accounting, reasons
from kit.cluster.state import Element

UID = os.getuid()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Priority", "Slurm: Priority (jobs of a higher priority come first)"),
        ("None", "Slurm: not scheduled yet"),
        ("FrontEndDown", "Slurm: FrontEndDown"),
        (
            "ReqNodeNotAvail, UnavailableNodes:mdx[1-2]",
            "Slurm: ReqNodeNotAvail, UnavailableNodes:mdx[1-2] (nodes that it needs are down, drained or "
            "reserved)",
        ),
    ],
)
def test_slurms_word_is_explained(reason: str, told: str) -> None:
    assert reasons.told(reason) == told


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("ReqNodeNotAvail, Reserved for maintenance", "maintenance"),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs", "down, drained"),
        ("QOSMaxGRESPerUser", "a limit of its QOS"),
        ("MaxCpuPerAccount", "a limit of its account"),
        ("AssocGrpCpuLimit", "a limit of its account"),
        ("launch failed requeued held", "could not be launched"),
        ("JobHeldAdmin", "an administrator"),
    ],
)
def test_reasons_of_many_forms_are_explained_too(reason: str, part: str) -> None:
    assert part in str(reasons.words(reason))


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        ("JobHeldUser", "scontrol release 17"),
        ("launch failed requeued held", "scontrol release 17"),
        ("JobHeldAdmin", None),
        ("Resources", None),
    ],
)
def test_a_held_job_can_be_released_by_its_user(reason: str, command: str | None) -> None:
    assert reasons.remedy(reason, "17") == command


def test_of_a_requeued_job_the_newest_record_counts() -> None:
    output = (
        "17|PREEMPTED|2026-11-29T17:12:57|2026-11-29T17:12:58|2026-11-29T17:13:10|None\n"
        "17|COMPLETED|2026-11-29T17:13:10|2026-11-29T17:13:20|2026-11-29T17:14:10|None\n"
        f"18_3|CANCELLED by {UID}|2026-11-29T17:12:57|None|2026-11-29T17:12:58|Dependency\n"
        "18_4|OUT_OF_MEMORY|2026-11-29T17:12:57|2026-11-29T17:12:57|2026-11-29T17:12:58|None\n"
    )
    found = accounting.newest(output)
    assert [one.state for one in found["17"]] == ["COMPLETED"]
    third, fourth = found["18"]
    assert (third.job, third.state, third.reason) == ("18_3", "CANCELLED", "by you")
    assert third.started is None
    assert (fourth.job, fourth.state) == ("18_4", "OUT_OF_MEMORY")


@pytest.mark.parametrize("state", ["REQUEUE_HOLD", "SPECIAL_EXIT", "PENDING"])
def test_a_job_that_is_held_is_still_in_the_queue(state: str) -> None:
    assert Element("17", state, "JobHeldUser", None, None, None).alive
    assert not Element("17", "FAILED", "None", None, None, None).alive


@pytest.mark.parametrize(
    ("indices", "held"),
    [
        ("0,3-5%2", {0, 3, 4, 5}),
        ("7", {7}),
        ("", set()),
        ("0,2,...", {*range(9)}),  # cut off: any may be among them
    ],
)
def test_the_pending_elements_of_an_array(indices: str, held: set[int]) -> None:
    element = Element("17", "PENDING", "Priority", None, None, None, indices)
    assert {index for index in range(9) if element.holds(index)} == held
