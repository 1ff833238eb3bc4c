"""Candidates in MLflow: one run each, however often and by however many it is published."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kit.store.files import write_json
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import runs
from kit.tracking.mlflow.address import tracking_uri
from kit.tracking.mlflow.candidates import publish_candidate
from kit.tracking.mlflow.publishing import publish

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from tests.conftest import Workdir

PARAMS = {"algorithm": "bpe", "vocab_size": 8000, "spaces": "lossless"}
METRICS = {"fertility": 1.25, "bits_per_byte": 2.5}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `publish_candidate` sets of the environment ends with the test."""
    for name in door.PATIENCE:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take a second to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    door.make_store(path)
    return path


@pytest.fixture
def store(workdir: Workdir, empty_store: Path) -> Recipe:
    """A recipe whose workspace has an empty MLflow database, and a name that URLs do not take."""
    root = workdir.folder / "作業 #1"
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    return workdir.recipe(f"workspace={root}")


@pytest.fixture
def plot(tmp_path: Path) -> Path:
    path = tmp_path / "measures.png"
    path.write_bytes(b"\x89PNG and more")
    return path


def shown(recipe: Recipe) -> tuple[Any, list[Any]]:
    """The experiment and its runs."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(recipe))
    experiment = client.get_experiment_by_name(recipe.tracking.experiment)
    return experiment, client.search_runs([experiment.experiment_id])


def plots(recipe: Recipe) -> list[Path]:
    """The plots that lie in the workspace, wherever there."""
    from pathlib import Path

    return sorted(Path(recipe.workspace).rglob("measures.png"))


def test_a_candidate_is_a_finished_run_with_its_plot_in_the_workspace(
    store: Recipe, plot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert publish_candidate(store, "bpe-8000", "0a1b", PARAMS, METRICS, plot) is None
    _, (found,) = shown(store)
    assert found.info.run_name == "bpe-8000"
    assert found.info.status == "FINISHED"
    assert found.data.tags[runs.CANDIDATE_TAG] == "0a1b"
    assert found.data.params == {"algorithm": "bpe", "vocab_size": "8000", "spaces": "lossless"}
    assert found.data.metrics == METRICS
    (copy,) = plots(store)
    assert copy.read_bytes() == plot.read_bytes()
    assert not list(elsewhere.iterdir())


def test_a_second_call_changes_only_what_differs(store: Recipe, plot: Path) -> None:
    from mlflow.tracking import MlflowClient

    for _ in range(2):
        assert publish_candidate(store, "bpe", "0a1b", PARAMS, METRICS, plot) is None
    (copy,) = plots(store)
    before, ended = copy.stat().st_ctime_ns, shown(store)[1][0].info.end_time
    changed = METRICS | {"fertility": 1.5}
    assert publish_candidate(store, "bpe", "0a1b", PARAMS, changed, plot) is None
    _, (found,) = shown(store)
    client = MlflowClient(tracking_uri(store))
    history = {
        key: [metric.value for metric in client.get_metric_history(found.info.run_id, key)]
        for key in METRICS
    }
    assert history == {"fertility": [1.25, 1.5], "bits_per_byte": [2.5]}
    assert (copy.stat().st_ctime_ns, found.info.end_time) == (before, ended)
    plot.write_bytes(b"\x89PNG and something else")
    assert publish_candidate(store, "bpe", "0a1b", PARAMS, changed, plot) is None
    assert [path.read_bytes() for path in plots(store)] == [plot.read_bytes()]
    assert len(shown(store)[1]) == 1


def test_what_a_killed_task_left_out_is_added(store: Recipe, plot: Path) -> None:
    client = door.connect(store)
    place = runs._experiment(client, store)
    client.create_run(place, tags={runs.CANDIDATE_TAG: "0a1b"})
    assert publish_candidate(store, "bpe", "0a1b", PARAMS, METRICS, plot) is None
    _, (found,) = shown(store)
    assert (set(found.data.params), found.data.metrics) == (set(PARAMS), METRICS)
    assert (found.info.status, len(plots(store))) == ("FINISHED", 1)


def test_other_candidates_and_the_training_are_runs_of_the_same_experiment(
    store: Recipe, plot: Path, run: Run
) -> None:
    write_json(run.identity, {"id": "0a1b"})  # the id of a run is no candidate's
    assert publish(run, store, "RUNNING") is None
    for name in ("0a1b", "2c3d"):
        assert publish_candidate(store, name, name, PARAMS, METRICS, plot) is None
    experiment, runs = shown(store)
    assert sorted(found.info.run_name for found in runs) == ["0a1b", "2c3d", "run"]
    assert len(plots(store)) == 2
    assert experiment.artifact_location.endswith("/mlartifacts")


def test_a_sqlite_file_with_a_uri_of_its_own_has_the_plots_beside_it(
    workdir: Workdir, empty_store: Path, plot: Path
) -> None:
    folder = workdir.folder / "own"
    folder.mkdir()
    shutil.copy(empty_store, folder / "runs.db")
    recipe = workdir.recipe(f"tracking.mlflow=sqlite:///{folder / 'runs.db'}")
    assert publish_candidate(recipe, "bpe", "0a1b", PARAMS, METRICS, plot) is None
    assert len(list(folder.rglob("measures.png"))) == 1


def test_tasks_that_publish_at_the_same_time_share_an_experiment(
    store: Recipe, plot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    together = threading.Barrier(2)
    create = MlflowClient.create_experiment

    def create_together(*arguments: Any, **keywords: Any) -> Any:
        together.wait(60)  # none is there for either
        return create(*arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "create_experiment", create_together)
    names, problems = ["bpe", "unigram"], []

    def task(name: str) -> None:
        problems.append(publish_candidate(store, name, name, PARAMS, METRICS, plot))

    threads = [threading.Thread(target=task, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [None, None]
    assert sorted(found.info.run_name for found in shown(store)[1]) == names


def test_a_server_that_is_away_is_a_problem_in_one_line(workdir: Workdir, plot: Path) -> None:
    recipe = workdir.recipe("tracking.mlflow=http://127.0.0.1:9")
    problem = publish_candidate(recipe, "bpe", "0a1b", PARAMS, METRICS, plot)
    assert problem is not None
    assert problem.startswith("http://127.0.0.1:9: ")
    assert "\n" not in problem


def test_a_plot_that_is_gone_is_a_problem_and_the_run_is_not_finished(
    store: Recipe, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.png"
    problem = publish_candidate(store, "bpe", "0a1b", PARAMS, METRICS, gone)
    assert problem is not None
    assert "gone.png" in problem
    assert shown(store)[1][0].info.status == "RUNNING"


def test_nothing_is_published_where_mlflow_is_off(workdir: Workdir, plot: Path) -> None:
    recipe = workdir.recipe("tracking.mlflow=null")
    assert publish_candidate(recipe, "bpe", "0a1b", PARAMS, METRICS, plot) is None
    assert not workdir.workspace.root.exists()
