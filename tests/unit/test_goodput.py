"""Where the time of a run went: buckets that add up, from files with times that are known."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.cluster.snapshot import snapshot
from kit.plan.buckets import BUCKETS
from kit.store.files import write_json
from kit.tracking.node_time import before, of_run
from kit.watch.goodput import Goodput, Split, goodput
from kit.watch.history import history
from kit.watch.partition import SECOND, Layer, nanoseconds, partition
from tests.written import T, Written

if TYPE_CHECKING:
    from kit.store.paths import Run

Interval = tuple[int, int]


def spent(
    written: Written, now: float, *, alive: bool = True, tokens: float | None = 0.0
) -> Goodput:
    seen = snapshot(written.run)
    made = None if tokens is None else T + tokens
    return goodput(seen, history(seen, alive=alive), T + now, alive=alive, tokens_made=made)


@pytest.fixture
def written(run: Run) -> Written:
    return Written(run)


def seconds(split: Split) -> dict[str, float]:
    """The buckets that hold any time."""
    return {name: ns / SECOND for name, ns in split.buckets.items() if ns}


def eventful(written: Written) -> None:
    """Corpus 100 s, queue 50 s; attempts: crash, preemption, hang, scancel; then one that is running."""
    written.start(1, 150)
    written.row(1, "attempt", 170, step=0)
    written.row(1, "validation", 175, step=0, seconds=5.0)
    end = written.steps(1, 175, range(1, 2), 25.0)  # 15 s longer than a usual one
    end = written.steps(1, end, range(2, 7))  # to 250: step 4 was saved, 5 and 6 are lost
    written.row(1, "checkpoint", 243, step=4, seconds=13.0, blocked=0.0)
    written.saved(4, 1)
    written.decide(1, 290, "crash (exit code 1)")  # a step in progress, then 30 s without a record
    written.start(2, 390, 4)
    written.row(2, "attempt", 400, step=4)
    written.steps(2, 400, range(5, 9))  # to 440
    written.row(2, "checkpoint", 448, step=8, seconds=6.0, blocked=2.0)
    written.saved(8, 2)
    written.end(2, 449, 8)
    written.decide(2, 450, "preemption")
    written.start(3, 500, 8)
    written.row(3, "attempt", 510, step=8)
    written.steps(3, 510, range(9, 11))  # to 530: both are lost
    written.hang(3, 650, 119.0)  # from 531
    written.decide(3, 660, "hang (rank 1, s)")
    written.start(4, 760, 8)
    written.row(4, "attempt", 770, step=8)
    written.steps(4, 770, range(9, 14))  # to 820
    written.saved(13, 4)
    written.end(4, 825, 13)
    written.decide(4, 830, "cancelled", requeued=False)
    write_json(written.run.jobs, {"time": T + 1000, "slurm": {"train": "17"}})
    written.start(5, 1100, 13)
    written.row(5, "attempt", 1110, step=13)
    written.steps(5, 1110, range(14, 20))  # to 1170


def test_a_start_is_split_into_imports_waiting_for_ranks_and_loading(written: Written) -> None:
    written.start(1, 150, submitted=0, started=100, imported=140)
    written.row(1, "attempt", 180, step=0, met=T + 165)
    written.steps(1, 185, range(1, 3))
    assert seconds(spent(written, 205, tokens=None).whole) == {
        "queue": 100,
        "startup_import": 40,
        "startup_ranks": 15,
        "startup_load": 10 + 20,  # a checkpoint is verified before the ranks meet
        "kept_steps": 20,
    }


def test_every_injected_time_is_found_in_its_bucket(written: Written) -> None:
    eventful(written)
    whole = spent(written, 1175, tokens=100).whole
    assert seconds(whole) == pytest.approx({
        "earlier_stages": 100,
        "queue": 50 + (390 - 290) + (500 - 450) + (760 - 660) + (1100 - 1000),
        "startup_load": 20 + 10 + 10 + 10 + 10,
        "validation": 5,
        "startup_first_step": 15,
        "kept_steps": 4 * 10 + 4 * 10 + 5 * 10 + 6 * 10 + 5,  # the last one is in progress
        "redone_steps": 2 * 10 + 10 + 2 * 10,
        "saves": 2,
        "ending": (450 - 440 - 2) + (830 - 820),
        "hang": 660 - 531,
        "stopped": 1000 - 830,
        "unknown": 30 + 1,  # after the crash; and before the step that hung began
    })  # fmt: skip
    assert sum(whole.buckets.values()) == whole.nanoseconds == 1175 * SECOND
    held = (290 - 150) + (450 - 390) + (660 - 500) + (830 - 760) + (1175 - 1100)
    assert whole.share == pytest.approx(195 / held)
    assert whole.of_wall_clock == pytest.approx(195 / 1175)
    assert [name for name, _ in whole.losses()] == ["queue", "stopped", "hang"]


def test_the_last_hour_holds_the_last_hour_only(written: Written) -> None:
    eventful(written)
    written.steps(5, 5000, range(20, 21))
    found = spent(written, 5010, tokens=100)
    assert found.hour.nanoseconds == 3600 * SECOND
    assert found.day.nanoseconds == found.whole.nanoseconds == 5010 * SECOND
    assert seconds(found.hour) == pytest.approx({"kept_steps": 10, "unknown": 3590})
    assert dict(found.hour.reasons) == {"between two rows of the ledger": 3590 * SECOND}


def test_a_run_that_is_done_ends_there(written: Written) -> None:
    written.start(1, 20)
    written.row(1, "attempt", 30, step=0)
    written.steps(1, 30, range(1, 4))
    written.end(1, 62, 3, "done")
    written.decide(1, 65, "done", requeued=False)
    found = spent(written, 9999, alive=False).whole
    assert seconds(found) == {"queue": 20, "startup_load": 10, "kept_steps": 30, "ending": 5}


def test_what_a_rollback_went_back_on_is_redone(written: Written) -> None:
    written.start(1, 0)
    written.row(1, "attempt", 0, step=0)
    written.steps(1, 0, range(1, 6))
    written.row(1, "rollback", 50, step=5, to_step=2, what="spike", passed_over=[0, 8])
    written.steps(1, 50, range(3, 5))
    found = spent(written, 70).whole
    assert seconds(found) == {"kept_steps": 40, "redone_steps": 30}


def test_after_the_end_steps_beyond_the_checkpoint_are_lost(written: Written) -> None:
    written.start(1, 0)
    written.row(1, "attempt", 0, step=0)
    written.steps(1, 0, range(1, 6))
    written.saved(3, 1)
    written.decide(1, 50, "crash, 4 times without a new checkpoint", requeued=False)
    found = spent(written, 80, alive=False).whole
    assert seconds(found) == {"kept_steps": 30, "redone_steps": 20, "failed": 30}


def test_steps_below_a_later_start_are_kept_though_their_checkpoint_is_gone(
    written: Written,
) -> None:
    written.start(1, 0)
    written.row(1, "attempt", 0, step=0)
    written.steps(1, 0, range(1, 6))
    written.decide(1, 50, "preemption")
    written.start(2, 50, 4)
    written.row(2, "attempt", 50, step=4)
    written.steps(2, 50, range(5, 6))
    written.decide(2, 60, "cancelled", requeued=False)
    found = spent(written, 60, alive=False).whole
    assert seconds(found) == {"kept_steps": 40, "redone_steps": 20}


def test_a_job_of_this_machine_imports_before_its_first_file(written: Written) -> None:
    jobs = {"time": T, "local": [{"name": "train", "begun": T + 30}], "node": "here"}
    write_json(written.run.jobs, jobs)
    written.start(1, 40)
    written.row(1, "attempt", 45, step=0)
    written.steps(1, 45, range(1, 3))
    found = spent(written, 65).whole
    assert seconds(found) == {
        "earlier_stages": 30, "startup_import": 10, "startup_load": 5, "kept_steps": 20,
    }  # fmt: skip
    assert found.share == pytest.approx(20 / 35)


def test_a_job_that_vanished_is_unknown_with_the_reason(written: Written) -> None:
    written.start(1, 0)
    written.row(1, "attempt", 0, step=0)
    written.steps(1, 0, range(1, 3))
    written.saved(2, 1)
    found = spent(written, 100, alive=False).whole
    assert seconds(found) == {"kept_steps": 20, "unknown": 80}
    assert [*found.reasons] == ["an attempt ended, and no decision about its job was recorded"]


def test_goodput_weights_an_attempt_with_its_ranks(written: Written) -> None:
    written.start(1, 0, ranks=1)
    written.row(1, "attempt", 10, step=0)
    written.steps(1, 10, range(1, 2))
    written.saved(1, 1)
    written.end(1, 20, 1)
    written.decide(1, 20, "preemption")
    written.start(2, 20, 1, ranks=9)
    written.row(2, "attempt", 20, step=1)
    written.steps(2, 20, range(2, 3))
    assert spent(written, 30).whole.share == pytest.approx((10 + 90) / (20 + 90))


def test_a_run_without_an_attempt_is_its_earlier_stages(written: Written) -> None:
    assert seconds(spent(written, 60, tokens=None).whole) == {"earlier_stages": 60}
    assert spent(written, 60, tokens=None).whole.share is None


def test_the_facts_have_every_bucket_and_shares_of_one(written: Written) -> None:
    eventful(written)
    facts = spent(written, 1175).whole.facts()
    assert [*facts["buckets"]] == [*BUCKETS]
    assert sum(one["share"] for one in facts["buckets"].values()) == pytest.approx(1, abs=1e-12)
    assert sum(one["seconds"] for one in facts["buckets"].values()) == pytest.approx(1175)
    assert sum(facts["unknown"].values()) == facts["buckets"]["unknown"]["seconds"]


REASONS = ("crash (exit code 1)", "hang (rank 0, s)", "preemption", "time limit", "cancelled", "done",
           "requeued by Slurm", "stopped: STOP file", "failed: x")  # fmt: skip
KINDS = ("attempt", "step", "validation", "checkpoint", "rollback", "end")
times = st.floats(-100, 1000, allow_nan=False)


@settings(max_examples=50)
@given(st.data())
def test_buckets_of_any_history_add_up_and_none_is_negative(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    from kit.store.paths import Run

    run = Run(tmp_path_factory.mktemp("run"))
    written = Written(run)
    for number in range(1, data.draw(st.integers(0, 4)) + 1):
        written.start(number, data.draw(times), data.draw(st.integers(0, 9)))
        for _ in range(data.draw(st.integers(0, 6))):
            kind = data.draw(st.sampled_from(KINDS))
            written.row(number, kind, data.draw(times), step=data.draw(st.integers(0, 9)),
                        seconds=data.draw(st.floats(0, 300)), blocked=data.draw(st.floats(0, 300)),
                        to_step=data.draw(st.integers(0, 9)), loss=1.0)  # fmt: skip
        if data.draw(st.booleans()):
            reason, requeued = data.draw(st.sampled_from(REASONS)), data.draw(st.booleans())
            written.decide(number, data.draw(times), reason, requeued=requeued)
        if data.draw(st.booleans()):
            written.hang(number, abs(data.draw(times)), data.draw(st.floats(0, 500)))
    found = spent(
        written, data.draw(times), alive=data.draw(st.booleans()), tokens=data.draw(times)
    )
    for split in (found.whole, found.hour, found.day):
        assert sum(split.buckets.values()) == split.nanoseconds
        assert min(split.buckets.values()) >= 0
        assert 0 <= split.kept <= split.held
        assert sum(split.reasons.values()) <= split.buckets["unknown"]


intervals = st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=6)
layers_of = st.lists(st.tuples(st.sampled_from("abc"), intervals), max_size=5)


@given(layers_of, st.integers(0, 35), st.integers(0, 35))
def test_each_moment_has_the_name_of_the_last_layer_over_it(
    painted: list[tuple[str, list[Interval]]], begin: int, end: int
) -> None:
    layers = [
        Layer(name, *(np.array(edge, np.int64) for edge in zip(*spans, strict=True)))
        for name, spans in painted
        if spans
    ]
    whole = partition(begin, end, layers, "rest")
    expected = dict.fromkeys(whole.names, 0)
    for moment in range(begin, end):
        over = [name for name, spans in painted if any(a <= moment < b for a, b in spans)]
        expected[over[-1] if over else "rest"] += 1
    assert whole.sums() == expected
    assert all(after >= before for before, after in pairwise(whole.bounds))


def test_nanoseconds_are_exact_to_the_microsecond() -> None:
    assert abs(int(nanoseconds(T + 0.25)) - int(T) * SECOND - SECOND // 4) < 1000


def test_tensorboard_is_given_the_same_goodput_of_attempts_that_have_ended(
    written: Written,
) -> None:
    written.start(1, 30, started=20)
    written.row(1, "attempt", 40, step=0)
    written.row(1, "validation", 45, step=0, seconds=5.0)
    end = written.steps(1, 45, range(1, 2), 25.0)  # 15 s longer than a usual one
    end = written.steps(1, end, range(2, 8))
    written.saved(4, 1)
    written.decide(1, end + 7, "crash (exit code 1)")
    written.start(2, end + 20, 4, ranks=4)
    written.row(2, "attempt", end + 30, step=4)
    end = written.steps(2, end + 30, range(5, 10))
    written.row(2, "rollback", end, step=10, to_step=8)
    end = written.steps(2, end, range(9, 13))
    written.saved(12, 2)
    written.end(2, end + 3, 12)
    written.decide(2, end + 5, "preemption")
    ended = of_run(written.run)
    written.start(3, end + 50, 12)
    shown = before(written.run, written.run.attempt(3))
    assert ended == shown
    whole = spent(written, end + 50).whole
    assert shown.kept_seconds == pytest.approx(whole.kept / SECOND)
    assert shown.held_seconds == pytest.approx(whole.held / SECOND)
    assert shown.goodput == pytest.approx(whole.share)
    past = history(snapshot(written.run), alive=True)
    assert shown.lost_steps == sum(int((~one.kept).sum()) for one in past.attempts) == 4


def test_an_attempt_records_the_sums_so_that_the_next_reads_one_ledger(written: Written) -> None:
    written.start(1, 0)
    written.row(1, "attempt", 10, step=0, kept_seconds=0.0, held_seconds=0.0, lost_steps=0)
    written.steps(1, 10, range(1, 11))
    written.start(2, 120, 8)
    second = before(written.run, written.run.attempt(2))
    fields = {"kept_seconds": second.kept_seconds, "held_seconds": second.held_seconds}
    written.row(2, "attempt", 130, step=8, lost_steps=second.lost_steps, **fields)
    written.steps(2, 130, range(9, 15))
    for number, from_step, kept in ((3, 12, 120.0), (4, 6, 60.0)):  # the second goes back further
        written.start(number, 200 + number, from_step, ranks=1)
        sums = before(written.run, written.run.attempt(number))
        assert sums.kept_seconds == 2 * kept
        assert sums.lost_steps == 10 + 6 - from_step
    written.run.attempt(1).ledger.write_text("")  # is not read if the second has the sums
    assert before(written.run, written.run.attempt(3)).kept_seconds == 240.0
