"""Arrays within Slurm's limits: every unit is still made once, by fewer tasks."""

from __future__ import annotations

import random

import pytest

from kit.cluster import arrays
from kit.cluster.arrays import Limit
from kit.cluster.jobs import Job
from kit.errors import QueueLimit

CHAIN = (
    Job("download", print, 2),
    Job("preprocess", print, 10_000),
    Job("merge", print),
    Job("tokenize", print, 300),
    Job("train", print, resources="training"),
)


def size(elements: int) -> Limit:
    return Limit(f"MaxArraySize={elements}", elements, frozenset(j.name for j in CHAIN), False)


def room(elements: int, *names: str, queued: int = 0) -> Limit:
    jobs = frozenset(names or (j.name for j in CHAIN))
    return Limit("MaxSubmitJobs=50 of account a", elements, jobs, True, queued)


def sizes(*limits: Limit) -> list[int]:
    return [len(job.task_numbers) for job in arrays.within(CHAIN, limits).jobs]


def test_each_array_keeps_to_the_largest_size() -> None:
    assert sizes(size(1001)) == [2, 1001, 1, 300, 1]
    assert sizes(size(1)) == [1, 1, 1, 1, 1]
    assert sizes(size(10_000)) == sizes() == [2, 10_000, 1, 300, 1]


def test_a_chain_shares_the_room_and_the_largest_arrays_shrink_first() -> None:
    assert sizes(room(700)) == [2, 396, 1, 300, 1]
    assert sizes(room(50)) == [2, 23, 1, 23, 1]
    assert sizes(room(5)) == [1, 1, 1, 1, 1]
    assert sizes(size(200), room(250)) == [2, 123, 1, 123, 1]
    assert sizes(room(40, "preprocess", "merge")) == [2, 39, 1, 300, 1]


def test_the_sum_never_exceeds_a_limit_and_leaves_little_of_it() -> None:
    draw = random.Random(5)
    for _ in range(300):
        jobs = [Job(str(i), print, draw.choice([1, 1, draw.randint(1, 50)])) for i in range(9)]
        limit = Limit("a", draw.randint(9, 200), frozenset(map(str, range(9))), True)
        fitted = arrays.within(jobs, [limit]).jobs
        total, before = arrays.elements(fitted), arrays.elements(jobs)
        assert total <= limit.elements
        assert total == before or total > limit.elements - 9


def test_what_has_no_room_with_a_task_each_is_refused_with_the_way_out() -> None:
    with pytest.raises(QueueLimit) as refused:
        arrays.within(CHAIN, [room(4, queued=46)])
    assert str(refused.value) == (
        "MaxSubmitJobs=50 of account a, 46 jobs already in the queue: room for 4 jobs, and the chain "
        "has 5; submit it in parts, as with --until"
    )


@pytest.mark.parametrize("missing", [None, tuple(range(0, 2500, 3)), tuple(range(40, 2400, 17))])
@pytest.mark.parametrize("largest", [1, 7, 100, 1001])
def test_every_missing_unit_belongs_to_one_task_whatever_the_number_of_tasks(
    missing: tuple[int, ...] | None, largest: int
) -> None:
    job = Job("preprocess", print, 2000, missing=missing)
    limit = Limit("MaxArraySize", largest, frozenset(["preprocess"]), False)
    (fitted,) = arrays.within([job], [limit]).jobs
    assert len(fitted.task_numbers) <= largest
    made = [unit for number in fitted.task_numbers for unit in range(number, 2500, fitted.tasks)]
    assert len(made) == len(set(made))
    assert set(made) >= set(range(2500) if missing is None else missing)


def test_a_few_missing_tasks_of_a_large_array_are_sent_as_they_are() -> None:
    job = Job("preprocess", print, 10_000, missing=(3, 9_999))
    fit = arrays.within([job], [size(1001)])
    assert ([*fit.jobs], fit.lines) == ([job], [])


def test_the_line_says_what_was_done_and_why() -> None:
    assert arrays.within(CHAIN, [size(1001)]).lines == [
        "preprocess: 1,001 tasks instead of 10,000, each with the units of up to 10: MaxArraySize=1001"
    ]


@pytest.mark.parametrize("limit", [5, 6, 11, 50, 305, 900, 10_000])
def test_a_limit_that_only_sbatch_knows_is_found_in_a_few_tries(limit: int) -> None:
    tried, found, sent = 0, [size(1001)], None
    while sent is None:
        jobs = arrays.within(CHAIN, found).jobs
        tried += 1
        over = [n for n in range(1, 6) if arrays.elements(jobs[:n]) > limit]
        if not over:
            sent = jobs
            break
        refusal = QueueLimit("no", limit="AssocMaxSubmitJobLimit", job=jobs[over[0] - 1].name)
        smaller = arrays.after_refusal(jobs, refusal, tried)
        assert smaller is not None
        found.append(smaller)
    assert tried <= 6
    assert arrays.elements(sent) >= min(limit, 1305) // 4


def test_a_limit_below_the_number_of_jobs_is_given_up() -> None:
    refusal = QueueLimit("no", limit="AssocMaxSubmitJobLimit", job="merge")
    ones = arrays.within(CHAIN, [size(1)]).jobs
    assert arrays.after_refusal(ones, refusal, 1) is None
