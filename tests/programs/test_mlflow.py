"""MLflow shows what the ledger says: every step once, under one identity."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions
from kit.store.files import read_json, write_json
from kit.tracking import ledger, scores
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import runs
from kit.tracking.mlflow.address import tracking_uri
from kit.tracking.mlflow.beside import Publishing
from kit.tracking.mlflow.candidates import publish_candidate
from kit.tracking.mlflow.cursor import page
from kit.tracking.mlflow.publishing import publish
from kit.tracking.mlflow.store import Store
from tests.relay import wait_until
from tests.speed import patience
from tests.unit.test_ledger import attempt as curve_of

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from tests.conftest import Workdir


def attempt(run: Run, number: int, steps: range, validations: tuple[int, ...] = ()) -> None:
    """An attempt that made these steps, one a second, and has not ended."""
    curve_of(run, number, steps, validations=validations)
    place = run.attempt(number)
    start = read_json(place.start) | {"job": f"train-0.{number}", "node": "n1", "time": time.time()}
    write_json(place.start, start)


def end(run: Run, number: int, outcome: str, reason: str = "") -> None:
    """The end of an attempt."""
    last = max(row["step"] for row in ledger.canonical(run))
    fields = {"outcome": outcome, "reason": reason, "step": last, "saved": last}
    write_json(run.attempt(number).end, {"job": f"train-0.{number}", "time": time.time(), **fields})


def beside(run: Run, recipe: Recipe) -> Publishing:
    """The process that publishes a run, started as rank 0 starts it."""
    write_json(run.recipe, recipe.model_dump(mode="json"))
    return Publishing(run)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `publish` sets of the environment ends with the test."""
    for name in door.PATIENCE:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take seconds to make."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(workdir: Workdir, empty_store: Path) -> Recipe:
    """A recipe whose workspace has an empty MLflow database."""
    workdir.workspace.root.mkdir()
    shutil.copy(empty_store, workdir.workspace.mlflow)
    return workdir.recipe()


@pytest.fixture
def told(run: Run) -> Run:
    """A run with an identity, as its submission gives it."""
    write_json(run.identity, {"id": "0123abcd"})
    return run


def shown_by_mlflow(recipe: Recipe) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """The one run of the experiment, and its metrics."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(recipe))
    experiment = client.get_experiment_by_name("ekiden")
    (found,) = client.search_runs([experiment.experiment_id])
    metrics = {
        tag: sorted((m.step, m.value) for m in client.get_metric_history(found.info.run_id, tag))
        for tag in ("train/loss", "train/validation_loss")
    }
    return found, metrics


def test_mlflow_shows_each_step_once_under_one_identity(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 11), validations=(0, 5, 10))
    assert publish(told, store, "RUNNING") is None
    attempt(told, 2, range(6, 13), validations=(10, 12))
    for _ in range(2):
        assert publish(told, store, "FINISHED") is None
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 13))
    assert [step for step, _ in metrics["train/validation_loss"]] == [0, 5, 10, 12]
    assert found.info.status == "FINISHED"
    assert found.data.tags[runs.TAG] == "0123abcd"
    assert found.data.params["model.n_embd"] == "16"


def test_mlflow_shows_each_score_once_at_the_step_of_its_checkpoint(
    told: Run, store: Recipe
) -> None:
    from mlflow.tracking import MlflowClient

    attempt(told, 1, range(1, 8))
    row: Any = {"kind": "score", "task": "jnli", "metric": "acc", "weights": "a", "time": 1.5}
    scores.add(told, [row | {"step": 4, "value": 0.25}, row | {"step": 7, "value": 0.5}])
    for _ in range(2):
        assert publish(told, store, "FINISHED") is None
    scores.add(
        told, [row | {"step": 2, "value": 0.125}]
    )  # scored later, as any kept checkpoint may be
    assert publish(told, store, "FINISHED") is None
    found, metrics = shown_by_mlflow(store)
    client = MlflowClient(tracking_uri(store))
    points = client.get_metric_history(found.info.run_id, "score/jnli/acc")
    assert sorted((p.step, p.value) for p in points) == [(2, 0.125), (4, 0.25), (7, 0.5)]
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 8))


def test_mlflow_finds_its_run_again_without_the_cursor(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 8))
    assert publish(told, store, "RUNNING") is None
    told.mlflow_cursor.unlink()
    assert publish(told, store, "SCHEDULED") is None
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 8))
    assert found.info.status == "SCHEDULED"


def test_without_the_cursor_mlflow_is_asked_for_its_last_step(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 8), validations=(7,))
    assert publish(told, store) is None
    told.mlflow_cursor.unlink()
    attempt(told, 2, range(5, 10), validations=(7, 9))  # makes steps again
    assert publish(told, store) is None
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 10))
    assert [step for step, _ in metrics["train/validation_loss"]] == [7, 9]


def test_a_publisher_does_not_repeat_a_step_that_another_has_sent(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 4))
    one, other = Store(told, store), Store(told, store)
    other.send_rows()
    attempt(told, 2, range(4, 8))
    one.refresh()
    one.send_rows()
    attempt(told, 3, range(6, 10))  # makes steps again, before the other knows of them
    other.refresh()
    other.send_rows()
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 10))


def test_a_step_sent_by_a_killed_attempt_that_did_not_note_it_is_not_shown_twice(
    told: Run, store: Recipe
) -> None:
    attempt(told, 1, range(1, 6))
    assert publish(told, store, "RUNNING") is None
    noted = read_json(told.mlflow_cursor)
    with told.attempt(1).ledger.open("a", encoding="utf-8") as out:
        for step in (6, 7):
            out.write(f'{{"kind": "step", "attempt": 1, "time": 5.0, "step": {step}, "loss": 1}}\n')
    sending = list(ledger.rows(told.attempt(1)))[-2:]
    assert publish(told, store, "RUNNING") is None
    # Killed when the rows were sent, before that was noted.
    write_json(told.mlflow_cursor, noted | {"sending": sending})
    attempt(told, 2, range(6, 9))
    assert publish(told, store, "FINISHED") is None
    _, metrics = shown_by_mlflow(store)
    times = Counter(step for step, _ in metrics["train/loss"])
    assert times == Counter(range(1, 9))


def test_a_server_that_cannot_be_reached_is_a_problem_and_no_exception(
    told: Run, workdir: Workdir
) -> None:
    attempt(told, 1, range(1, 3))
    recipe = workdir.recipe("tracking.mlflow=http://127.0.0.1:9")
    problem = publish(told, recipe, "RUNNING")
    assert problem is not None
    assert problem.startswith("http://127.0.0.1:9: ")
    assert "\n" not in problem


def test_what_a_server_missed_is_sent_to_the_next(
    told: Run, store: Recipe, workdir: Workdir
) -> None:
    attempt(told, 1, range(1, 6))
    away = workdir.recipe("tracking.mlflow=http://127.0.0.1:9")
    assert publish(told, away, "RUNNING") is not None
    assert not told.mlflow_cursor.exists()
    assert publish(told, store, "FINISHED") is None
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_server_that_is_away_neither_ends_nor_holds_up_an_attempt_and_misses_nothing(
    told: Run, store: Recipe, workdir: Workdir
) -> None:
    publishing = beside(told, workdir.recipe("tracking.mlflow=http://127.0.0.1:9"))
    attempt(told, 1, range(1, 6))
    assert not publishing.close(patience=0.0)  # and it may be left alone
    wait_until(lambda: "will be sent later" in told.mlflow_log.read_text(), "warning")
    publishing._process.kill()  # type: ignore[union-attr]
    assert publish(told, store, "FINISHED") is None
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


OF_RANK = """
import sys
from pathlib import Path
import kit.training.attempt, kit.training.loop
from kit.store.paths import Run
from kit.training.recorder import Publishing

assert Publishing(Run(Path(sys.argv[1]))).close(float(sys.argv[2]))
assert not [name for name in sys.modules if name.split(".")[0] == "mlflow"]
"""


def test_a_rank_publishes_without_importing_mlflow(told: Run, store: Recipe, root: Path) -> None:
    attempt(told, 1, range(1, 6))
    end(told, 1, "done")
    write_json(told.recipe, store.model_dump(mode="json"))
    rank = [sys.executable, "-c", OF_RANK, str(told.root), str(patience(60))]
    subprocess.run(rank, cwd=root, check=True)
    found, metrics = shown_by_mlflow(store)
    assert len(metrics["train/loss"]) == 5
    assert found.info.status == "FINISHED"


def test_the_process_that_publishes_gives_way_to_its_training_as_long_as_it_runs(
    told: Run, store: Recipe
) -> None:
    process = beside(told, store)._process
    assert process is not None
    assert process.stdin is not None
    group = Path(f"/proc/{process.pid}/autogroup")

    def weighs(nice: int) -> bool:
        return not group.is_file() or group.read_text().endswith(f" nice {nice}\n")

    try:
        wait_until(lambda: weighs(10), "less weight for its session", 60)
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(ours + 10, 19)
        process.stdin.close()
        wait_until(lambda: weighs(0), "usual weight after the attempt", 60)
    finally:
        process.kill()
        process.wait()


def test_a_publisher_that_is_killed_is_started_again_and_misses_nothing(
    told: Run, store: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    publishing, said = (
        beside(told, store),
        "the publishing process ended (exit code -9); it starts again",
    )
    attempt(told, 1, range(1, 6))
    for look in (publishing.revive, lambda: publishing.close(patience(60))):
        killed = publishing._process
        assert killed is not None
        killed.kill()
        killed.wait()
        look()
        assert said in capfd.readouterr().err
    publishing.revive()  # its attempt is over
    assert capfd.readouterr().err == ""
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_run_whose_rank_is_killed_waits_for_its_next_attempt(told: Run, store: Recipe) -> None:
    publishing = beside(told, store)
    attempt(told, 1, range(1, 6))
    assert publishing.close(patience(60))  # as the kernel closes the pipe
    assert shown_by_mlflow(store)[0].info.status == "SCHEDULED"


def test_a_run_that_is_killed_together_with_its_publisher_waits_too(
    told: Run, store: Recipe
) -> None:
    attempt(told, 1, range(1, 6))
    assert publish(told, store) is None
    assert shown_by_mlflow(store)[0].info.status == "RUNNING"
    write_json(told.recipe, store.model_dump(mode="json"))
    decision = decisions.Decision(True, "crash (exit code 137)")
    decisions.record(told, "train-0.1", "train", decision)
    decisions.publish_wait(told, decision)
    wait_until(lambda: read_json(told.mlflow_cursor)["status"] == "SCHEDULED", "status")
    assert shown_by_mlflow(store)[0].info.status == "SCHEDULED"


def client_of(recipe: Recipe) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri(recipe))


def test_a_deleted_run_is_taken_out_of_the_trash_and_goes_on(
    told: Run, store: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    attempt(told, 1, range(1, 4))
    assert publish(told, store, "FINISHED") is None
    before, _ = shown_by_mlflow(store)
    client_of(store).delete_run(before.info.run_id)
    attempt(told, 2, range(4, 6))
    capfd.readouterr()
    assert publish(told, store, "FINISHED") is None
    after, metrics = shown_by_mlflow(store)
    assert after.info.run_id == before.info.run_id
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]
    assert capfd.readouterr().err.count("restored\n") == 1


def test_a_run_deleted_under_a_publishers_hands_has_all_rows_at_its_end(
    told: Run, store: Recipe
) -> None:
    attempt(told, 1, range(1, 4))
    publishing = beside(told, store)
    wait_until(told.mlflow_cursor.is_file, "first rows", seconds=60)
    wait_until(lambda: read_json(told.mlflow_cursor).get("status") == "RUNNING", "status")
    client_of(store).delete_run(read_json(told.mlflow_cursor)["run"])
    attempt(told, 2, range(4, 5))
    end(told, 2, "done")
    assert publishing.close(patience(60))
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4]
    assert found.info.status == "FINISHED"


def test_a_deleted_experiment_comes_back_with_its_runs(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 4))
    assert publish(told, store, "FINISHED") is None
    before, _ = shown_by_mlflow(store)
    client_of(store).delete_experiment(before.info.experiment_id)
    attempt(told, 2, range(4, 6))
    assert publish(told, store, "FINISHED") is None
    after, metrics = shown_by_mlflow(store)
    assert after.info.run_id == before.info.run_id
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("left", [None, b""], ids=["gone", "empty"])
def test_a_view_that_was_removed_is_made_anew_from_the_ledger(
    told: Run,
    store: Recipe,
    workdir: Workdir,
    left: bytes | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    attempt(told, 1, range(1, 4), validations=(2,))
    assert publish(told, store, "FINISHED") is None
    workdir.workspace.mlflow.unlink()
    if left is not None:  # as sqlite leaves it where a process still writes
        workdir.workspace.mlflow.write_bytes(left)
    capfd.readouterr()
    assert publish(told, store, "FINISHED") is None
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3]
    assert [step for step, _ in metrics["train/validation_loss"]] == [2]
    assert found.info.status == "FINISHED"
    assert capfd.readouterr().err.count("creating it again\n") == 1


def test_an_amended_parameter_is_a_tag_beside_its_first_value(told: Run, store: Recipe) -> None:
    def shown(steps: int) -> tuple[str, str | None]:
        training = store.training.model_copy(update={"steps": steps})
        amended = store.model_copy(update={"training": training})
        assert publish(told, amended, "RUNNING") is None
        told.mlflow_cursor.unlink()  # of the next attempt nothing is taken for told
        data = shown_by_mlflow(amended)[0].data
        return data.params["training.steps"], data.tags.get("amended.training.steps")

    assert shown(10) == ("10", None)
    assert shown(24) == ("10", "24")
    assert shown(10) == ("10", "10")


def test_a_training_that_was_cancelled_is_killed_and_one_that_gave_up_has_failed(
    told: Run, store: Recipe
) -> None:
    attempt(told, 1, range(1, 4))
    assert publish(told, store, "SCHEDULED") is None
    write_json(told.recipe, store.model_dump(mode="json"))
    statuses = []
    for again, reason in [
        (True, "preemption"),
        (False, "requeued by Slurm"),
        (False, "cancelled"),
        (False, "crash, 4 times without a new checkpoint (exit code 1)"),
    ]:
        decisions.publish_end(told, decisions.Decision(again, reason))
        statuses.append(shown_by_mlflow(store)[0].info.status)
    assert statuses == ["SCHEDULED", "SCHEDULED", "KILLED", "FAILED"]


def test_a_workspace_of_any_name_has_its_database_and_its_plots_in_it(
    told: Run, workdir: Workdir, empty_store: Path
) -> None:
    root = workdir.folder / "odd" / "a?b %20c#d'e"
    root.mkdir(parents=True)
    recipe = workdir.recipe().model_copy(update={"workspace": str(root)})
    plot = workdir.folder / "measures.png"
    plot.write_bytes(b"PNG")
    attempt(told, 1, range(1, 4))
    assert publish(told, recipe, "FINISHED") is None
    assert publish_candidate(recipe, "bpe", "0a1b", {}, {"fertility": 1.0}, plot) is None
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    assert sorted(path.name for path in root.iterdir()) == ["mlartifacts", "mlflow.db"]
    assert len(list(root.rglob("measures.png"))) == 1


def test_a_workspace_that_moved_is_the_same_view_with_its_plots(
    told: Run, store: Recipe, workdir: Workdir
) -> None:
    plot = workdir.folder / "measures.png"
    plot.write_bytes(b"PNG")
    attempt(told, 1, range(1, 4))
    assert publish(told, store, "FINISHED") is None
    assert publish_candidate(store, "bpe", "0a1b", {}, {"fertility": 1.0}, plot) is None
    noted = read_json(told.mlflow_cursor)
    now = workdir.workspace.root.rename(workdir.folder / "another place")
    moved = store.model_copy(update={"workspace": str(now)})
    attempt(told, 2, range(4, 6))
    assert publish(told, moved, "FINISHED") is None
    assert read_json(told.mlflow_cursor)["run"] == noted["run"]
    client = client_of(moved)
    runs = client.search_runs([noted["experiment"]])
    assert len(runs) == 2
    (candidate,) = (run for run in runs if run.info.run_id != noted["run"])
    assert [file.path for file in client.list_artifacts(candidate.info.run_id)] == ["measures.png"]


def test_the_address_opens_the_training_runs(told: Run, store: Recipe) -> None:
    assert page(told, store) is None
    assert publish(told, store, "RUNNING") is None
    experiment = client_of(store).get_experiment_by_name("ekiden")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert page(told, store) == (
        f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    )


MAKES_STORE = """
import sys
from pathlib import Path
from kit.tracking.mlflow import client

path = Path(sys.argv[1])
seen = 0

def look(event, arguments):
    global seen
    if event == "os.link":
        assert not path.exists()
        seen += 1
    elif event == "sqlite3.connect" and str(arguments[0]) == str(path):
        raise SystemExit("the tables are made in place")

sys.addaudithook(look)
client.make_store(path)
assert seen
"""


@pytest.mark.long  # ten seconds of a processor
def test_mlflows_tables_are_made_before_the_store_has_its_name(tmp_path: Path, root: Path) -> None:
    store = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", MAKES_STORE, str(store)], cwd=root, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    door.make_store(store)  # and are left alone from then on
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    assert [found.name for found in client.search_experiments()] == ["Default"]
