"""MLflow shows what the ledger says: every step once, under one identity."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions
from kit.store.files import read_json, write_json
from kit.tracking import ledger, mlflow
from tests.relay import wait_until
from tests.speed import patience
from tests.unit.test_ledger import attempt

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from tests.conftest import Workdir


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `publish` sets of the environment ends with the test."""
    for name in mlflow._PATIENCE:
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

    client = MlflowClient(mlflow.tracking_uri(recipe))
    experiment = client.get_experiment_by_name("ekiden")
    (found,) = client.search_runs([experiment.experiment_id])
    metrics = {
        tag: sorted((m.step, m.value) for m in client.get_metric_history(found.info.run_id, tag))
        for tag in ("train/loss", "train/validation_loss")
    }
    return found, metrics


def test_mlflow_shows_each_step_once_under_one_identity(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 11), validations=(0, 5, 10))
    assert mlflow.publish(told, store, "RUNNING") is None
    attempt(told, 2, range(6, 13), validations=(10, 12))
    for _ in range(2):
        assert mlflow.publish(told, store, "FINISHED") is None
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 13))
    assert [step for step, _ in metrics["train/validation_loss"]] == [0, 5, 10, 12]
    assert found.info.status == "FINISHED"
    assert found.data.tags[mlflow.TAG] == "0123abcd"
    assert found.data.params["model.n_embd"] == "16"


def test_mlflow_finds_its_run_again_without_the_cursor(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 8))
    assert mlflow.publish(told, store, "RUNNING") is None
    told.mlflow_cursor.unlink()
    assert mlflow.publish(told, store, "SCHEDULED") is None
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == list(range(1, 8))
    assert found.info.status == "SCHEDULED"


def test_a_step_sent_by_a_killed_attempt_that_did_not_note_it_is_not_shown_twice(
    told: Run, store: Recipe
) -> None:
    attempt(told, 1, range(1, 6))
    assert mlflow.publish(told, store, "RUNNING") is None
    noted = read_json(told.mlflow_cursor)
    with told.attempt(1).ledger.open("a", encoding="utf-8") as out:
        for step in (6, 7):
            out.write(f'{{"kind": "step", "attempt": 1, "time": 5.0, "step": {step}, "loss": 1}}\n')
    sending = list(ledger.rows(told.attempt(1)))[-2:]
    assert mlflow.publish(told, store, "RUNNING") is None
    # Killed when the rows were sent, before that was noted.
    write_json(told.mlflow_cursor, noted | {"sending": sending})
    attempt(told, 2, range(6, 9))
    assert mlflow.publish(told, store, "FINISHED") is None
    _, metrics = shown_by_mlflow(store)
    times = Counter(step for step, _ in metrics["train/loss"])
    assert times == Counter(range(1, 9))


def test_a_server_that_cannot_be_reached_is_a_problem_and_no_exception(
    told: Run, workdir: Workdir
) -> None:
    attempt(told, 1, range(1, 3))
    recipe = workdir.recipe("tracking.mlflow=http://127.0.0.1:9")
    problem = mlflow.publish(told, recipe, "RUNNING")
    assert problem is not None
    assert problem.startswith("http://127.0.0.1:9: ")
    assert "\n" not in problem


def test_what_a_server_missed_is_sent_to_the_next(
    told: Run, store: Recipe, workdir: Workdir
) -> None:
    attempt(told, 1, range(1, 6))
    away = workdir.recipe("tracking.mlflow=http://127.0.0.1:9")
    assert mlflow.publish(told, away, "RUNNING") is not None
    assert not told.mlflow_cursor.exists()
    assert mlflow.publish(told, store, "FINISHED") is None
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_server_that_is_away_neither_ends_nor_holds_up_an_attempt_and_misses_nothing(
    told: Run, store: Recipe, workdir: Workdir
) -> None:
    publisher = mlflow.Publisher(told, workdir.recipe("tracking.mlflow=http://127.0.0.1:9"))
    attempt(told, 1, range(1, 6))
    for row in ledger.rows(told.attempt(1)):
        publisher.add(row)
    assert publisher.close("SCHEDULED", patience=patience(60))
    assert mlflow.publish(told, store, "FINISHED") is None
    _, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_publisher_sends_what_is_left_when_it_is_closed(told: Run, store: Recipe) -> None:
    publisher = mlflow.Publisher(told, store)
    attempt(told, 1, range(1, 6))
    assert publisher.close("FINISHED", patience=60.0)
    found, metrics = shown_by_mlflow(store)
    assert len(metrics["train/loss"]) == 5
    assert found.info.status == "FINISHED"


def client_of(recipe: Recipe) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(mlflow.tracking_uri(recipe))


def test_a_deleted_run_is_taken_out_of_the_trash_and_goes_on(
    told: Run, store: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    attempt(told, 1, range(1, 4))
    assert mlflow.publish(told, store, "FINISHED") is None
    before, _ = shown_by_mlflow(store)
    client_of(store).delete_run(before.info.run_id)
    attempt(told, 2, range(4, 6))
    capfd.readouterr()
    assert mlflow.publish(told, store, "FINISHED") is None
    after, metrics = shown_by_mlflow(store)
    assert after.info.run_id == before.info.run_id
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5]
    assert capfd.readouterr().err.count("restored\n") == 1


def test_a_run_deleted_under_a_publishers_hands_has_all_rows_at_its_end(
    told: Run, store: Recipe
) -> None:
    attempt(told, 1, range(1, 4))
    publisher = mlflow.Publisher(told, store)
    wait_until(told.mlflow_cursor.is_file, "first rows", seconds=60)
    wait_until(lambda: read_json(told.mlflow_cursor).get("status") == "RUNNING", "status")
    client_of(store).delete_run(read_json(told.mlflow_cursor)["run"])
    publisher.add({"kind": "step", "attempt": 1, "time": 5.0, "step": 4, "loss": 1.0})
    assert publisher.close("FINISHED", patience=patience(60))
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4]
    assert found.info.status == "FINISHED"


def test_a_deleted_experiment_comes_back_with_its_runs(told: Run, store: Recipe) -> None:
    attempt(told, 1, range(1, 4))
    assert mlflow.publish(told, store, "FINISHED") is None
    before, _ = shown_by_mlflow(store)
    client_of(store).delete_experiment(before.info.experiment_id)
    attempt(told, 2, range(4, 6))
    assert mlflow.publish(told, store, "FINISHED") is None
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
    assert mlflow.publish(told, store, "FINISHED") is None
    workdir.workspace.mlflow.unlink()
    if left is not None:  # as sqlite leaves it where a process still writes
        workdir.workspace.mlflow.write_bytes(left)
    capfd.readouterr()
    assert mlflow.publish(told, store, "FINISHED") is None
    found, metrics = shown_by_mlflow(store)
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3]
    assert [step for step, _ in metrics["train/validation_loss"]] == [2]
    assert found.info.status == "FINISHED"
    assert capfd.readouterr().err.count("creating it again\n") == 1


def test_an_amended_parameter_is_a_tag_beside_its_first_value(told: Run, store: Recipe) -> None:
    def shown(steps: int) -> tuple[str, str | None]:
        training = store.training.model_copy(update={"steps": steps})
        amended = store.model_copy(update={"training": training})
        assert mlflow.publish(told, amended, "RUNNING") is None
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
    assert mlflow.publish(told, store, "SCHEDULED") is None
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
    assert mlflow.publish(told, recipe, "FINISHED") is None
    assert mlflow.publish_candidate(recipe, "bpe", "0a1b", {}, {"fertility": 1.0}, plot) is None
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    assert sorted(path.name for path in root.iterdir()) == ["mlartifacts", "mlflow.db"]
    assert len(list(root.rglob("measures.png"))) == 1


def test_a_workspace_that_moved_is_the_same_view_with_its_plots(
    told: Run, store: Recipe, workdir: Workdir
) -> None:
    plot = workdir.folder / "measures.png"
    plot.write_bytes(b"PNG")
    attempt(told, 1, range(1, 4))
    assert mlflow.publish(told, store, "FINISHED") is None
    assert mlflow.publish_candidate(store, "bpe", "0a1b", {}, {"fertility": 1.0}, plot) is None
    noted = read_json(told.mlflow_cursor)
    now = workdir.workspace.root.rename(workdir.folder / "another place")
    moved = store.model_copy(update={"workspace": str(now)})
    attempt(told, 2, range(4, 6))
    assert mlflow.publish(told, moved, "FINISHED") is None
    assert read_json(told.mlflow_cursor)["run"] == noted["run"]
    client = client_of(moved)
    runs = client.search_runs([noted["experiment"]])
    assert len(runs) == 2
    (candidate,) = (run for run in runs if run.info.run_id != noted["run"])
    assert [file.path for file in client.list_artifacts(candidate.info.run_id)] == ["measures.png"]


def test_the_address_opens_the_training_runs(told: Run, store: Recipe) -> None:
    assert mlflow.page(told, store) is None
    assert mlflow.publish(told, store, "RUNNING") is None
    experiment = client_of(store).get_experiment_by_name("ekiden")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert mlflow.page(told, store) == (
        f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    )


MAKES_STORE = """
import sys
from pathlib import Path
from kit.tracking import mlflow

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
mlflow._make_store(path)
assert seen
"""


def test_mlflows_tables_are_made_before_the_store_has_its_name(tmp_path: Path, root: Path) -> None:
    store = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", MAKES_STORE, str(store)], cwd=root, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    mlflow._make_store(store)  # and are left alone from then on
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    assert [found.name for found in client.search_experiments()] == ["Default"]
