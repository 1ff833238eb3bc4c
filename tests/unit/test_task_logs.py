"""The logs of tasks: which files, in which order, and what of them is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.cluster import task_logs
from kit.cluster.task_logs import Selection
from kit.errors import RunError
from kit.relay import logs
from kit.relay.log_view import LogView, that_matter
from kit.store.files import write_json

if TYPE_CHECKING:
    from kit.store.paths import Run

ALL = Selection()


def start(clock: str, token: str, *lines: str, stage: str = "train") -> str:
    """What one start of a task writes."""
    first = f"2026-11-29 {clock} {stage}: job {token} on n1"
    return "".join(f"{line}\n" for line in (first, *lines))


def write(run: Run, name: str, file: str, *starts: str) -> None:
    path = run.job_logs(name) / f"{file}_log.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write("".join(starts))


def claimed(run: Run, number: int, token: str) -> None:
    run.attempt(number).root.mkdir()
    write_json(run.attempt(number).start, {"job": token})


@pytest.fixture
def trained(run: Run) -> Run:
    """Three submissions on Slurm and this machine, the second of which was requeued; rank 1 failed once."""
    write(run, "train", "900_0", start("10:00:00", "900.0", "a"))
    write(run, "train", "900_1", start("10:00:00", "900.0"))
    write(run, "train", "train-0_0", start("11:00:00", "train-0-abc.0", "b"))
    write(
        run, "train", "1001_0", start("12:00:00", "1001.0", "c"), start("12:30:00", "1001.1", "d")
    )
    write(run, "train", "1001_1", start("12:00:01", "1001.0", "x"), start("12:30:01", "1001.1"))
    for number, token in enumerate(["900.0", "train-0-abc.0", "1001.0", "1001.1"], 1):
        claimed(run, number, token)
    return run


def printed(
    run: Run, names: list[str], selection: Selection = ALL, lines: int | None = None
) -> str:
    said: list[bytes] = []
    LogView(run, names, selection, said.append).show(lines)
    return b"".join(said).decode()


def test_attempts_come_in_the_order_of_their_starts_whatever_job_they_belong_to(
    trained: Run,
) -> None:
    found = task_logs.parts(trained, "train")
    assert [(part.log.path.name, part.attempt) for part in found] == [
        ("900_0_log.out", 1),
        ("900_1_log.out", 1),
        ("train-0_0_log.out", 2),
        ("1001_0_log.out", 3),
        ("1001_1_log.out", 3),
        ("1001_0_log.out", 4),
        ("1001_1_log.out", 4),
    ]
    said = printed(trained, ["train"])
    places = [said.index(f"\n{letter}\n") for letter in "abcxd"]
    assert places == sorted(places)


def test_above_each_file_stands_its_path_and_ranks_that_say_nothing_are_left_out(
    trained: Run,
) -> None:
    heads = [line for line in printed(trained, ["train"]).splitlines() if line.startswith("==>")]
    folder = trained.job_logs("train")
    files = ("900_0", "train-0_0", "1001_0", "1001_1", "1001_0")
    assert heads == [f"==> {folder}/{name}_log.out <==" for name in files]
    quiet = printed(trained, ["train"], Selection(rank=1, attempt=4))
    assert quiet == f"==> {folder}/1001_1_log.out <==\n{start('12:30:01', '1001.1')}"


def test_an_attempt_is_shown_alone(trained: Run) -> None:
    said = printed(trained, ["train"], Selection(attempt=3))
    assert "\nc\n" in said
    assert "\nx\n" in said
    assert "\nd\n" not in said


def test_the_last_lines_are_of_the_last_start_of_each_task(trained: Run) -> None:
    said = printed(trained, ["train"], lines=1)
    assert "\nd\n" in said
    assert "\nx\n" not in said  # of an earlier start
    assert "\nc\n" not in said


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        (Selection(attempt=9), "--attempt 9: train has attempts 1 to 4"),
        (Selection(rank=2), "--rank 2: train has ranks 0 to 1"),
        (Selection(task=1), "--task 1: train has task 0"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    trained: Run, selection: Selection, told: str
) -> None:
    with pytest.raises(RunError, match=told):
        printed(trained, ["train"], selection)


def test_tasks_of_an_array_are_shown_one_after_the_other_and_count_their_own_attempts(
    run: Run,
) -> None:
    for index in (0, 2, 10):
        again = start("10:05:00", f"17_{index}.1", "again", stage="count")
        more = (again,) if index == 2 else ()
        write(
            run, "count", f"17_{index}_0", start("10:00:00", f"17_{index}.0", stage="count"), *more
        )
    write(run, "count", "30_0_0", start("11:00:00", "30_0.0", stage="count"))
    found = [(part.log.path.name, part.attempt) for part in task_logs.parts(run, "count")]
    assert found == [
        ("17_0_0_log.out", 1),
        ("17_2_0_log.out", 1),
        ("17_2_0_log.out", 2),
        ("17_10_0_log.out", 1),
        ("30_0_0_log.out", 2),
    ]
    with pytest.raises(RunError, match="--task 1: count has tasks 0, 2, 10"):
        printed(run, ["count"], Selection(task=1))


def test_a_start_that_died_before_its_first_line_is_shown(run: Run) -> None:
    write(run, "train", "17_0", "module: command not found\n")
    assert "module: command not found" in printed(run, ["train"])


def test_what_is_added_is_followed_in_new_files_and_only_whole_lines_are_shown(
    trained: Run,
) -> None:
    said: list[bytes] = []
    view = LogView(trained, ["train"], ALL, said.append)
    states = iter([True, True, False])

    def going_on(_: float) -> bool:
        alive = next(states)
        if alive and not said:
            write(trained, "train", "1001_0", "e\nhalf of ")
            write(trained, "train", "2000_1", start("13:00:00", "2000.0"))
        elif alive:
            assert b"half" not in b"".join(said)
            write(trained, "train", "1001_0", "a line\n")
            write(trained, "train", "2000_0", start("13:00:00", "2000.0", "f"))
        else:
            write(trained, "train", "1001_0", "no end")
        return alive

    view.follow(going_on, pause=0.0)
    folder = trained.job_logs("train")
    assert b"".join(said).decode() == (
        f"==> {folder}/1001_0_log.out <==\ne\nhalf of a line\n"
        f"\n==> {folder}/2000_0_log.out <==\n{start('13:00:00', '2000.0', 'f')}"
        f"\n==> {folder}/1001_0_log.out <==\nno end"
    )


def test_an_attempt_is_followed_to_its_end(trained: Run) -> None:
    said: list[bytes] = []
    view = LogView(trained, ["train"], Selection(attempt=4, rank=0), said.append)
    write(trained, "train", "1001_0", "last\n", start("14:00:00", "1001.2", "next"))
    view.follow(lambda _: True, pause=0.0)
    assert said[-1] == b"last\n"


def stage(state: str, log: str | None = None) -> dict[str, str | None]:
    return {"state": state, "log": log}


def test_of_a_chain_the_stages_at_work_matter_else_the_one_that_ended_badly() -> None:
    done, failed = stage("done"), stage("failed", "a.out")
    chain = {"a": done, "b": failed, "c": stage("running", "c.out"), "d": stage("queued")}
    assert that_matter(chain) == ["c"]
    assert that_matter(chain | {"c": stage("waiting")}) == ["b"]
    assert that_matter({"a": done, "b": stage("queued", "b.out"), "c": stage("queued")}) == ["b"]
    assert that_matter({"a": done, "b": done}) == ["a", "b"]


def test_the_tail_of_a_failed_rank_is_of_its_last_start_and_has_the_error(run: Run) -> None:
    old = ("Traceback (most recent call last):", "  File", "OSError: long ago")
    new = (
        "[rank1]: Traceback (most recent call last):",
        "[rank1]:   File",
        "[rank1]: ValueError: new",
    )
    srun = [f"srun: {number}" for number in range(6)]
    write(run, "train", "17_0", start("10:00:00", "17.0", *old), start("11:00:00", "17.1", "fine"))
    write(run, "train", "17_1", start("11:00:00", "17.1", *new, *srun))
    log = logs.of_task(run.job_logs("train"), "17")
    assert log == run.job_logs("train") / "17_1_log.out"
    assert logs.last_lines(log) == ["[rank1]: ValueError: new", *srun[1:]]
    assert logs.last_lines(run.job_logs("train") / "17_0_log.out")[1:] == ["fine"]
