"""TensorBoard shows what the ledger says: every step once, whatever became of the attempts."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as ServersAccumulator,
)

from kit.config import relocation
from kit.relay import resolve
from kit.store import records
from kit.store.files import append_line, write_json
from kit.tracking import event_files, ledger
from kit.tracking.drawer import Drawer
from kit.tracking.tensorboard import EventFile, scalars
from tests.drawn import RANKS, Attempt
from tests.relay import DEMO, NOWHERE

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.rows import StepRow


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return resolve.load(DEMO, [NOWHERE], "local").recipe


def reader(run: Run) -> EventAccumulator:
    return EventAccumulator(str(run.tensorboard), {"scalars": 0}).Reload()


def shown(run: Run, tag: str) -> list[tuple[int, float]]:
    events = reader(run)
    if tag not in events.Tags()["scalars"]:
        return []
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def texts(run: Run, tag: str) -> list[tuple[int, str]]:
    events = ServersAccumulator(str(run.tensorboard), {"tensors": 0}).Reload()
    return [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)]


def told(run: Run, kind: str, key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in ledger.canonical(run) if row["kind"] == kind]


DRAWN = (
    ("step", "loss"), ("step", "learning_rate"), ("step", "tokens"), ("validation", "validation_loss"),
    ("validation", "bits_per_byte"),
)  # fmt: skip


def check(run: Run) -> None:
    """Everything in the ledger is shown, once and in order."""
    for kind, key in DRAWN:
        assert shown(run, f"train/{key}") == told(run, kind, key), key
    samples = [
        (row["step"], row["text"]) for row in ledger.samples(run) if row["prompt"] == "駅伝は"
    ]
    assert [(step, text.splitlines()[1]) for step, text in texts(run, "samples/駅伝は")] == samples


def test_a_step_shows_its_z_loss_if_it_has_one() -> None:
    row: StepRow = {
        "kind": "step", "attempt": 1, "time": 0.0, "step": 1, "loss": 7.0, "z_loss": 0.005,
        "learning_rate": 0.1, "gradient_norm": 1.0, "sample": 8, "seconds": 1.0, "tokens_per_second": 64.0,
        "mfu": None,
    }  # fmt: skip
    assert scalars(row)["train/z_loss"] == 0.005
    del row["z_loss"]
    assert "train/z_loss" not in scalars(row)


@pytest.mark.parametrize("killed", [False, True])
def test_each_step_is_shown_once_after_interruptions(
    run: Run, recipe: Recipe, killed: bool
) -> None:
    for number, steps in ((1, range(1, 11)), (2, range(6, 9)), (3, range(6, 13))):
        one = Attempt(run, recipe, number, steps.start - 1).steps(steps, validations=(5, 8, 10))
        if killed:
            one.killed()
        else:
            one.left(steps.stop - 1)
    check(run)
    assert [step for step, _ in shown(run, "train/loss")] == list(range(1, 13))


def test_each_step_is_shown_once_after_a_rollback(run: Run, recipe: Recipe) -> None:
    one = Attempt(run, recipe, 1, 0).steps(range(1, 9), validations=(4, 8))
    one.add("rollback", step=9, what="loss nan", to_step=4, passed_over=[16, 36])
    one.steps(range(5, 11), validations=(8,)).killed()
    check(run)
    assert [step for step, _ in shown(run, "train/lost_steps")] == [4, 8]
    assert shown(run, "train/lost_steps")[-1] == (8, 4)


def test_what_a_killed_attempt_never_drew_is_in_the_file_of_the_next(
    run: Run, recipe: Recipe
) -> None:
    """Whatever part of the file had reached the disk, down to nothing, and to no file."""
    Attempt(run, recipe, 1, 0).steps(range(1, 4), validations=(3,)).left(3)
    Attempt(run, recipe, 2, 3).steps(range(4, 10), validations=(6, 8)).killed()
    *_, path = sorted(run.tensorboard.iterdir())
    whole = path.read_bytes()
    Attempt(run, recipe, 3, 8).steps(range(9, 11), validations=(10,)).left(10)
    check(run)
    goodput = shown(run, "train/goodput")
    assert [step for step, _ in goodput] == [3, 6, 8, 10]
    for size in (*range(0, len(whole), 97), None):
        path.unlink() if size is None else path.write_bytes(whole[:size])
        file = EventFile(run, recipe, run.attempt(3))
        for row in ledger.rows(run.attempt(3)):
            file.add(row)
        file.close()
        check(run)
        assert shown(run, "train/goodput") == goodput, size


def test_goodput_and_lost_steps_are_those_of_all_attempts(run: Run, recipe: Recipe) -> None:
    # Of 2 s a step; rows come every 2 s from 10 s after the start on.
    first = Attempt(run, recipe, 1, 0).steps(range(1, 9), validations=(4, 8))
    ended = max(row["time"] for row in ledger.rows(first.place)) - 1_000.0
    first.killed()
    second = Attempt(run, recipe, 2, 4).steps(range(5, 7), validations=(6,))
    second.killed()
    held = [row["time"] for row in ledger.rows(second.place)][-1] - 2_000.0
    assert shown(run, "train/lost_steps") == [(4, 0), (6, 4)]
    assert shown(run, "train/goodput")[-1] == (6, pytest.approx((4 + 2) * 2.0 / (ended + held)))


def test_the_first_step_of_an_attempt_counts_as_its_second(run: Run, recipe: Recipe) -> None:
    one = Attempt(run, recipe, 1, 0)
    one.add("step", step=1, loss=1.0, seconds=40.0)
    one.add("step", step=2, loss=1.0, seconds=2.0)
    one.killed()
    Attempt(run, recipe, 2, 2).killed()
    row = next(iter(ledger.rows(run.attempt(2))))
    assert row["kept_seconds"] == RANKS * 4.0


def test_a_run_says_its_recipe_once_and_each_attempt_how_the_ones_before_it_ended(
    run: Run, recipe: Recipe
) -> None:
    Attempt(run, recipe, 1, 0).steps(range(1, 4)).left(3)
    crash = {
        "time": 2_500.0,
        "job": "job.2",
        "name": "train",
        "requeued": True,
        "reason": "crash|9",
    }
    Attempt(run, recipe, 2, 3).steps(range(4, 6)).killed()
    append_line(run.requeues, json.dumps(crash))
    Attempt(run, recipe, 3, 3).steps(range(4, 6)).left(5, "done", "")
    ((step, said),) = texts(run, "recipe")
    assert step == 0
    resolved = relocation.without_secrets(recipe.model_dump(mode="json"))
    assert json.loads(said.removeprefix("```json\n").removesuffix("\n```")) == resolved
    tables = texts(run, "attempts")
    assert [step for step, _ in tables] == [0, 3, 3, 5]
    ends = [line.split(" | ")[-1].removesuffix(" |") for line in tables[-1][1].splitlines()[2:]]
    assert ends == ["interrupted at step 3: SIGTERM", "crash/9", "done at step 5"]
    assert tables[1][1].endswith("| running |")


def test_a_text_that_looks_like_markdown_is_shown_as_it_is(run: Run, recipe: Recipe) -> None:
    one = Attempt(run, recipe, 1, 0)
    one.add("sample", step=0, prompt="a\n b", text="# no ```title``` <b>")
    one.killed()
    assert texts(run, "samples/a b") == [(0, "````\n# no ```title``` <b>\n````")]


def test_the_page_of_hyperparameters_has_those_of_the_run_and_its_end(
    run: Run, recipe: Recipe
) -> None:
    from tensorboard.plugins.hparams import api_pb2, metadata

    Attempt(run, recipe, 1, 0).steps(range(1, 4)).killed()
    Attempt(run, recipe, 2, 3).steps(range(4, 5)).left(4, "done", "")
    data = {tag: reader(run).SummaryMetadata(tag).plugin_data.content
            for tag in reader(run).PluginTagToContent("hparams")}  # fmt: skip
    begun = metadata.parse_session_start_info_plugin_data(data[metadata.SESSION_START_INFO_TAG])
    assert begun.hparams["model.n_layer"].number_value == 2
    assert begun.hparams["training.decay"].string_value == "cosine"
    assert begun.start_time_secs == 1_000.0
    page = metadata.parse_experiment_plugin_data(data[metadata.EXPERIMENT_TAG])
    assert {info.name for info in page.hparam_infos} == {*begun.hparams}
    assert "train/bits_per_byte" in [info.name.tag for info in page.metric_infos]
    ended = metadata.parse_session_end_info_plugin_data(data[metadata.SESSION_END_INFO_TAG])
    assert ended.status == api_pb2.STATUS_SUCCESS


def test_a_file_that_could_not_be_written_is_written_again_whole(
    run: Run, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kit.tracking import drawer

    monkeypatch.setattr(drawer, "_EVERY", 0.01)
    monkeypatch.setattr(drawer, "_PAUSE", 0.05)
    run.tensorboard.write_text("in the way of the folder")
    place = run.attempt(1)
    place.root.mkdir()
    start = {"from_step": 0, "time": 1_000.0, "job": "job.1", "ranks": 1, "node": "here"}
    write_json(place.start, start)
    assert records.start(place)["ranks"] == 1
    book, drawn = ledger.Ledger(place), Drawer(run, recipe, place)
    for step in range(1, 300):
        drawn.add(book.add("step", step=step, loss=step / 100, seconds=0.1))
        if step == 150:
            while "will be rewritten later" not in capsys.readouterr().err:
                time.sleep(0.01)
            run.tensorboard.unlink()
        if step % 50 == 0:
            time.sleep(0.02)
    book.close()
    drawn.close()
    assert shown(run, "train/loss") == told(run, "step", "loss")


def test_the_command_has_a_port_that_is_free_now(run: Run) -> None:
    def port() -> int:
        *_, option, number = event_files.command(run)
        assert option == "--port"
        return int(number)

    words = event_files.command(run)
    assert words[words.index("--logdir") + 1] == str(run.tensorboard)
    assert words[words.index("--samples_per_plugin") + 1] == "scalars=100000"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port()))
        assert port() != taken.getsockname()[1]
