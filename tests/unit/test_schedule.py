"""The learning rate of each step: the published formulae, and what amendments and forks make of them."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config import amendments
from kit.config.recipe import Training
from kit.errors import ConfigError
from kit.plan import schedule
from kit.plan.schedule import AttemptStart, Schedule, Segment
from kit.store.files import write_json

if TYPE_CHECKING:
    from kit.store.paths import Run

DECAYS = (
    {"decay": "cosine"}, {"decay": "linear"}, {"decay": "constant"}, {"decay": "wsd"},
    {"decay": "wsd", "decay_shape": "linear", "decay_share": 0.2},
    {"decay": "wsd", "decay_shape": "cosine", "decay_share": 0.5},
    {"decay": "wsd", "decay_shape": "1-sqrt", "decay_share": 1.0},
)  # fmt: skip


def training_of(steps: int | None = 10, **others: Any) -> Training:
    """Settings with a peak of 1, unless another one is given."""
    needed = {"global_batch": 8, "micro_batch": 8, "learning_rate": 1.0, "validate_every": 5}
    tree = {"steps": steps, "deepspeed": {}, "minimum_learning_rate": 0.1, "warmup_steps": 2}
    return Training(**(needed | tree | others))


def ends(training: Training) -> int:
    """The last step over a training set of 80 blocks: an epoch is 10 steps."""
    return training.steps_over(80)


def whole(training: Training) -> Schedule:
    return Schedule(training, (Segment(0, ends(training)),))


def rates(found: Schedule, first: int = 0) -> list[float]:
    return [found.rate(step) for step in range(first, found.end)]


def row(new: Any, old: Any, key: str = "steps", time: float = 0.0, **mode: str) -> dict[str, Any]:
    """An amendment of a run's end; `schedule=...` says how, and is not there in old records."""
    return {"time": time, "key": f"training.{key}", "old": old, "new": new, **mode}


def on(*ends_of_it: int) -> list[dict[str, Any]]:
    """Amendments from one number of steps to the next."""
    pairs = enumerate(itertools.pairwise(ends_of_it))
    return [row(new, old, time=n, schedule="continue") for n, (old, new) in pairs]


def test_a_warm_up_begins_above_zero_and_a_cosine_ends_at_the_minimum() -> None:
    found = rates(whole(training_of(10)))
    assert found[:2] == [0.5, 1.0]
    for done, rate in enumerate(found[2:], 1):  # Loshchilov and Hutter's half cosine, over 8 steps
        assert rate == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * done / 8)) / 2)


def test_a_linear_decay_falls_by_the_same_every_step() -> None:
    assert rates(whole(training_of(10, decay="linear")))[1:] == pytest.approx(
        [1.0 - 0.9 * done / 8 for done in range(9)]
    )


def test_a_constant_rate_stays_after_warming_up() -> None:
    assert rates(whole(training_of(10, decay="constant"))) == [0.5] + [1.0] * 9


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        ("linear", lambda share: 1 - share),
        ("cosine", lambda share: (1 + math.cos(math.pi * share)) / 2),
        ("1-sqrt", lambda share: 1 - share**0.5),
    ],
)
def test_wsd_holds_the_peak_and_decays_over_its_last_share(shape: str, left: Any) -> None:
    found = rates(whole(training_of(40, decay="wsd", decay_share=0.25, decay_shape=shape)))
    assert found[:30] == [0.5] + [1.0] * 29
    assert found[30:] == pytest.approx([0.1 + 0.9 * left(done / 10) for done in range(1, 11)])


def test_wsd_alone_decays_over_a_tenth_by_one_minus_the_root() -> None:
    found = rates(whole(training_of(100, decay="wsd", minimum_learning_rate=0.0)))
    assert found[:90] == [0.5] + [1.0] * 89
    assert found[90:] == pytest.approx([1 - math.sqrt(done / 10) for done in range(1, 11)])


@pytest.mark.parametrize("warmup", [0, 1, 9, 10, 100])
@pytest.mark.parametrize("decay", DECAYS, ids=str)
def test_a_learning_rate_is_never_zero_nor_above_its_peak(
    warmup: int, decay: dict[str, Any]
) -> None:
    assert all(0 < rate <= 1.0 for rate in rates(whole(training_of(warmup_steps=warmup, **decay))))


@pytest.mark.parametrize("key", ["decay_share", "decay_shape"])
def test_a_key_of_wsd_is_refused_beside_another_decay(key: str) -> None:
    value = {"decay_share": 0.2, "decay_shape": "linear"}[key]
    training_of(decay="wsd", **{key: value})
    with pytest.raises(ValueError, match=f"{key}={value} needs decay: wsd, but decay is cosine"):
        training_of(**{key: value})


def derived(training: Training, rows: list[dict[str, Any]], *attempts: tuple[int, int]) -> Schedule:
    """Of attempts that set out from a step and know so many amendments."""
    return schedule.derive(training, rows, [AttemptStart(*one) for one in attempts], ends)


def test_a_longer_cosine_goes_on_from_the_rate_at_that_step() -> None:
    # At step 200 of 300 it had come down to 0.000132: the 700 steps left begin there.
    training = training_of(900, learning_rate=0.0005, minimum_learning_rate=1e-5, warmup_steps=30)
    found = derived(training, on(300, 900), (0, 0), (200, 1))
    had = 1e-5 + 0.00049 * (1 + math.cos(math.pi * 170 / 270)) / 2
    assert found.rate(199) == pytest.approx(had)
    for left in (1, 350, 700):
        expected = 1e-5 + (had - 1e-5) * (1 + math.cos(math.pi * left / 700)) / 2
        assert found.rate(199 + left) == pytest.approx(expected)
    assert found.end == 900


def test_a_shorter_linear_decay_goes_down_from_where_it_is() -> None:
    found = derived(training_of(500, decay="linear"), on(902, 500), (0, 0), (452, 1))
    had = 1 - 0.9 * 450 / 900
    assert rates(found, 451) == pytest.approx([had - (had - 0.1) * done / 48 for done in range(49)])


def test_wsd_goes_on_at_its_peak_and_decays_at_the_new_end() -> None:
    found = rates(derived(training_of(200, decay="wsd"), on(100, 200), (0, 0), (50, 1)))
    assert found == pytest.approx(
        [0.5] + [1.0] * 179 + [0.1 + 0.9 * (1 - math.sqrt(done / 20)) for done in range(1, 21)]
    )


def test_wsd_in_its_decay_holds_the_rate_it_has() -> None:
    found = derived(training_of(200, decay="wsd"), on(100, 200), (0, 0), (95, 1))
    had = 0.1 + 0.9 * (1 - math.sqrt(0.5))
    assert rates(found, 94)[:86] == pytest.approx([had] * 86)
    assert found.rate(199) == pytest.approx(0.1)


def test_what_is_amended_in_the_warm_up_is_as_if_it_had_been_so_from_the_start() -> None:
    for step in (0, 1, 2):
        found = derived(training_of(30), on(10, 30), (0, 0), (step, 1))
        assert rates(found) == rates(whole(training_of(30)))


def test_an_end_in_epochs_is_one_in_steps() -> None:
    rows = [
        row(None, 20, time=1.0, schedule="continue"),
        row(3.0, None, "epochs", 1.0, schedule="continue"),
    ]
    found = derived(training_of(None, epochs=3.0), rows, (0, 0), (5, 2))
    assert rates(found) == rates(derived(training_of(30), on(20, 30), (0, 0), (5, 1)))


def test_anew_is_the_schedule_of_the_new_end_from_there_on() -> None:
    rows = [row(30, 10, schedule="anew")]
    found = derived(training_of(30), rows, (0, 0), (6, 1))
    assert rates(found)[:6] == rates(whole(training_of(10)))[:6]
    assert rates(found)[6:] == rates(whole(training_of(30)))[6:]


def test_a_record_of_before_goes_on_as_it_did() -> None:
    old = derived(training_of(30), [row(30, 10)], (0, 0), (6, 1))
    new = derived(training_of(30), [row(30, 10, schedule="anew")], (0, 0), (6, 1))
    assert rates(old) == rates(new)


def test_an_attempt_that_does_not_know_goes_on_as_before() -> None:
    rows = on(10, 30)
    assert rates(derived(training_of(30), rows, (0, 0), (4, 0))) == rates(whole(training_of(10)))
    # Whether its recipe holds the new end already, or the crash between the two files kept it old.
    assert rates(derived(training_of(10), rows, (0, 0), (4, 0))) == rates(whole(training_of(10)))
    late = derived(training_of(30), rows, (0, 0), (4, 0), (8, 1))
    assert rates(late)[:8] == rates(whole(training_of(10)))[:8]
    assert derived(training_of(10), rows, (0, 0), (4, 0), (8, 1)).segments == late.segments


@pytest.mark.parametrize("again", [6, 5, 0])
def test_an_attempt_that_dies_and_starts_again_leaves_one_curve(again: int) -> None:
    # Not a step of its own, or all checkpoints since `again` are broken: what was done is done again.
    once = derived(training_of(30), on(10, 30), (0, 0), (6, 1))
    twice = derived(training_of(30), on(10, 30), (0, 0), (6, 1), (again, 1), (8, 1))
    assert rates(twice) == rates(once)


def test_an_attempt_that_counted_before_the_one_before_it_changes_nothing() -> None:
    # Its job looked at the record, was slow, and claimed its number after another job's.
    found = derived(training_of(60), on(20, 30, 60), (0, 0), (4, 2), (6, 0), (8, 2))
    assert rates(found) == rates(derived(training_of(60), on(20, 30, 60), (0, 0), (4, 2)))


def test_another_amendment_from_an_earlier_step_takes_the_place_of_the_first() -> None:
    found = derived(training_of(60), on(20, 30, 60), (0, 0), (12, 1), (6, 2))
    assert rates(found) == rates(derived(training_of(60), on(20, 60), (0, 0), (6, 1)))


def test_two_amendments_in_a_row_are_the_last_one() -> None:
    both = derived(training_of(60), on(20, 30, 60), (0, 0), (12, 2))
    assert rates(both) == rates(derived(training_of(60), on(20, 60), (0, 0), (12, 1)))


def test_one_that_is_taken_back_in_time_leaves_no_trace() -> None:
    found = derived(training_of(20), on(20, 60, 20), (0, 0), (12, 2))
    assert rates(found) == rates(whole(training_of(20)))


def test_what_was_amended_before_the_first_step_is_the_recipe() -> None:
    # And a recipe submitted again before that is the user's, whatever had been amended.
    assert rates(derived(training_of(50), on(20, 30), (0, 1))) == rates(whole(training_of(50)))


def first_fall(training: Training, steps: int) -> float:
    """What the first of so many steps takes of a decay from 1 to 0."""
    shape = training.decay
    if shape == "wsd":
        shape = training.decay_shape or "1-sqrt"
        steps = min(steps, max(1, round((training.decay_share or 0.1) * ends(training))))
    return {
        "constant": 0.0,
        "linear": 1 / steps,
        "cosine": (1 - math.cos(math.pi / steps)) / 2,
        "1-sqrt": math.sqrt(1 / steps),
    }[shape]


@settings(deadline=None)
@given(
    st.sampled_from(DECAYS),
    st.integers(0, 40),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 400)), min_size=1, max_size=4),
)
def test_no_amendment_moves_the_rate_by_more_than_a_step_does(
    decay: dict[str, Any], warmup: int, low: float, changes: list[tuple[float, int]]
) -> None:
    """Each `change`: the share of what is left that is done until then, and the steps from there on."""
    training = training_of(300, warmup_steps=warmup, minimum_learning_rate=low, **decay)
    known, lengths, attempts, before = 0, [300], [(0, 0)], whole(training)
    for share, more in changes:
        at = known + 1 + int(share * (lengths[-1] - known - 1))
        end = next(one for one in range(at + more, at + more + 9) if one not in lengths)
        lengths.append(end)
        attempts.append((at, len(lengths) - 1))
        training = training.model_copy(update={"steps": end})
        after = derived(training, on(*lengths), *attempts)
        assert all(after.rate(step) == before.rate(step) for step in range(known, at))
        had = before.rate(at - 1)
        most = (had - min(low, had)) * first_fall(training, end - at)
        assert abs(after.rate(at) - had) <= (1 / warmup if at < warmup else most) + 1e-9
        known, before = at, after


def fork(parent: Schedule, step: int, how: str | None = None, **changes: Any) -> Schedule:
    training = parent.training.model_copy(update=changes)
    return schedule.forked(parent, training, step, ends(training), how)


def test_a_fork_with_no_other_schedule_has_all_of_its_parents() -> None:
    parent = derived(training_of(30), on(10, 30), (0, 0), (6, 1))
    assert fork(parent, 4, seed=7).segments == parent.segments


def test_a_fork_with_another_end_or_shape_goes_on_from_the_rate_there() -> None:
    parent = whole(training_of(20))
    longer = fork(parent, 11, steps=31)
    had = 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2
    assert longer.rate(11) == pytest.approx(0.1 + (had - 0.1) * (1 + math.cos(math.pi / 20)) / 2)
    straight = fork(parent, 11, decay="linear")
    assert rates(straight, 11) == pytest.approx(
        [had - (had - 0.1) * done / 9 for done in range(1, 10)]
    )


@pytest.mark.parametrize("change", [{"learning_rate": 0.5}, {"warmup_steps": 5}])
def test_a_fork_with_another_peak_or_warm_up_has_that_schedule(change: dict[str, Any]) -> None:
    parent = derived(training_of(30), on(10, 30), (0, 0), (6, 1))
    assert rates(fork(parent, 8, **change)) == rates(whole(training_of(30, **change)))
    with pytest.raises(ConfigError, match=r"--schedule continue: .* without effect"):
        fork(parent, 8, "continue", **change)


def test_a_fork_anew_has_its_recipes_schedule() -> None:
    assert rates(fork(whole(training_of(20)), 11, "anew", steps=31)) == rates(
        whole(training_of(31))
    )


def test_a_decayed_branch_comes_down_from_any_trunk() -> None:
    for decay in DECAYS:
        trunk = whole(training_of(40, **decay))
        for step in (1, 2, 30):
            branch = trunk.decayed(step, 8)
            shape = {"decay": "wsd", "decay_share": 1.0, "decay_shape": "linear"}
            found = Schedule(trunk.training.model_copy(update=shape), branch.segments)
            had = trunk.rate(step - 1)
            assert rates(found, step) == pytest.approx(
                [had - (had - 0.1) * done / 8 for done in range(1, 9)]
            )


def test_the_records_of_a_run_are_read(run: Run) -> None:
    """A fork of step 4 that was amended before it began; its first attempt died, and wrote nothing."""
    write_json(run.origin, {"schedule": [{"step": 4, "end": 10, "rate": 0.8}]})
    amendments.record(run, on(10, 30))
    write_json(run.attempt(1).start, {"from_step": 4, "amendments": 1})
    run.attempt(2).root.mkdir()
    write_json(run.attempt(3).start, {"from_step": 6, "amendments": 1})
    write_json(run.attempt(4).start, {"from_step": 7, "amendments": 0})
    assert schedule.starts(run, 3) == [AttemptStart(4, 1), AttemptStart(6, 1)]
    found = schedule.for_run(run, training_of(30), ends, 3)
    assert found.segments == (Segment(4, 30, 0.8),)
    assert schedule.record(found) == [{"step": 4, "end": 30, "rate": 0.8}]


def test_the_same_end_told_in_epochs_leaves_the_schedule_as_it_is() -> None:
    training = training_of(None, epochs=3_000)
    rows = [
        row(None, 30_000, time=1.0, schedule="continue"),
        row(3_000, None, key="epochs", time=1.0, schedule="continue"),
    ]
    found = schedule.derive(training, rows, [AttemptStart(0, 0), AttemptStart(20_000, 2)], ends)
    assert found.segments == (Segment(0, 30_000),)


def test_a_minimum_above_the_peak_is_refused() -> None:
    schedule.check(training_of(learning_rate=0.1))
    schedule.check(training_of(learning_rate=0.05, decay="constant"))
    with pytest.raises(ConfigError, match=r"=0\.1: above training\.learning_rate=0\.05, so the"):
        schedule.check(training_of(learning_rate=0.05))
