"""MLflow behind a server, which fails in every way, while the process and `watch sync` both publish."""

from __future__ import annotations

import json
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kit.relay import resolve
from kit.store import manifest
from kit.store.files import read_json, write_json
from kit.tracking import ledger
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import runs, status
from kit.tracking.mlflow.beside import Publishing
from kit.tracking.mlflow.candidates import publish_candidate
from kit.tracking.mlflow.process import Publisher
from kit.tracking.mlflow.publishing import publish
from tests.mlflow_server import MlflowServer, Proxy, fetch, postgres, serving
from tests.programs.test_candidate_runs import METRICS, PARAMS, plot
from tests.relay import wait_until
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from tests.conftest import Workdir
    from tests.mlflow_server import Mode

pytestmark = pytest.mark.end_to_end

__all__ = ["plot"]  # a fixture
ON_POSTGRES = pytest.param("postgresql", marks=pytest.mark.long)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that `publish` sets end with the test."""
    for name in door.PATIENCE:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # of a server that hangs


@pytest.fixture(scope="module", params=["sqlite", ON_POSTGRES])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """A server for all tests of this module; each has a workspace, and so a run, of its own."""
    folder = tmp_path_factory.mktemp("server") / "作業 #1"  # a name that URLs do not take
    folder.mkdir()
    if request.param == "sqlite":
        with serving(folder) as server:
            shutil.copy(folder / "mlflow.db", folder / "empty.db")
            yield server
        return
    with postgres() as uri, serving(folder, uri) as server:
        yield server


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def recipe(workdir: Workdir, proxy: Proxy, request: pytest.FixtureRequest) -> Recipe:
    """A recipe whose MLflow is behind the proxy, with an experiment for each test."""
    name = f"tracking.experiment={request.node.name}"
    return workdir.recipe(f"tracking.mlflow={proxy.url}", name)


@pytest.fixture
def run(workdir: Workdir, recipe: Recipe) -> Run:
    """A run that was submitted."""
    run = workdir.workspace.run("small")
    cluster = resolve.load(workdir.recipe_file, [], "local").cluster
    write_json(run.recipe, recipe.model_dump(mode="json"))
    write_json(run.cluster, cluster.model_dump(mode="json"))
    write_json(run.identity, {"id": workdir.folder.name, "name": "small", "time": time.time()})
    return run


def loss_of(step: int) -> float:
    """The same in every attempt, as where training is deterministic."""
    return 8.0 - step / 1000


class Training:
    """Attempts of a run, of which only the ledger is real."""

    def __init__(self, run: Run) -> None:
        self._run, self._number, self.step = run, 0, 0
        self.begin(0)

    def begin(self, from_step: int) -> None:
        """Begin an attempt at a checkpoint; the one before was killed."""
        self._number, self.step = self._number + 1, from_step
        attempt = self._run.attempt(self._number)
        start = {"job": f"train-0.{self._number}", "node": "n1", "from_step": from_step}
        write_json(attempt.start, start | {"time": time.time(), "validated": False})
        self._book = ledger.Ledger(attempt)

    def go_on(self, steps: int) -> None:
        """Make steps, with a validation after every tenth."""
        for _ in range(steps):
            self.step += 1
            figures = {"loss": loss_of(self.step), "learning_rate": 0.1, "gradient_norm": 1.0}
            row: Any = {**figures, "sample": self.step, "tokens_per_second": 1.0, "mfu": None}
            self._book.add("step", step=self.step, seconds=0.1, **row)
            if self.step % 10 == 0:
                loss = loss_of(self.step)
                self._book.add("validation", step=self.step, validation_loss=loss, seconds=0.1)
            time.sleep(0.002)  # rows of two steps differ in time, as they do

    def end(self, outcome: Any) -> None:
        """End the attempt in order."""
        end: Any = {"outcome": outcome, "reason": "", "step": self.step, "saved": self.step}
        self._book.add("end", **end)
        self._book.close()


def shown(recipe: Recipe) -> tuple[Any, Any]:
    """The client, and the one run of the experiment."""
    client = door.connect(recipe)
    experiment = client.get_experiment_by_name(recipe.tracking.experiment)
    (found,) = client.search_runs([experiment.experiment_id])
    return client, found


def assert_equal_to_the_ledger(run: Run, recipe: Recipe) -> None:
    """Every step once and in order, by MLflow's API."""
    client, found = shown(recipe)
    for kind, key in (("step", "loss"), ("validation", "validation_loss")):
        history = client.get_metric_history(found.info.run_id, f"train/{key}")
        rows: list[Any] = [row for row in ledger.canonical(run) if row["kind"] == kind]
        assert [(m.step, m.value) for m in history] == [(row["step"], row[key]) for row in rows]


def test_two_publishers_and_a_server_in_trouble_leave_each_step_once_and_in_order(
    run: Run, recipe: Recipe, proxy: Proxy, server: MlflowServer
) -> None:
    training, over = Training(run), threading.Event()
    publishing = Publishing(run)

    def sync() -> None:
        publisher = Publisher(run, recipe, lambda: status.of_files(run))
        while not over.wait(0.5):
            publisher.send()

    other = threading.Thread(target=sync)
    other.start()
    modes: tuple[Mode, ...] = ("broken", "slow", "hanging", "away")
    try:
        training.go_on(40)
        wait_until(lambda: read_json(run.mlflow_cursor)["sent"] == {"step": 40, "validation": 40}
                   if run.mlflow_cursor.is_file() else False, "first steps")  # fmt: skip
        for mode in modes:
            proxy.become(mode)
            training.go_on(17)
            wait_until(lambda mode=mode: proxy.asked.get(mode, 0) > 1, f"publisher, {mode}")
            training.begin(training.step - 5)  # it was killed, and five steps are made again
            training.go_on(25)
            proxy.become("open")
        last = training.step
        wait_until(lambda: read_json(run.mlflow_cursor)["sent"]["step"] == last, "all steps")
        assert shown(recipe)[1].info.status == "RUNNING"
        assert_equal_to_the_ledger(run, recipe)
        if "sqlite" in server.store:  # the server loses all it has
            proxy.become("away")
            shutil.copy(server.folder / "empty.db", server.folder / "mlflow.db")
            proxy.become("open")
        else:
            server.kill()
            server.start()
        training.go_on(20)
        training.end("done")
        assert publishing.close(patience(60)), run.mlflow_log.read_text()
    finally:
        over.set()
        publishing.close(0.0)
        other.join()
    assert shown(recipe)[1].info.status == "FINISHED"
    assert_equal_to_the_ledger(run, recipe)
    assert "the rows will be sent later" in run.mlflow_log.read_text()


def test_watch_sync_publishes_what_jobs_without_a_network_left(
    run: Run, recipe: Recipe, proxy: Proxy, workdir: Workdir
) -> None:
    training = Training(run)
    training.go_on(12)
    training.end("interrupted")
    away = recipe.tracking.model_copy(update={"mlflow": "http://127.0.0.1:9", "mlflow_by": "sync"})
    own = recipe.model_copy(update={"tracking": away})
    write_json(run.recipe, own.model_dump(mode="json"))
    done = workdir.run("jobs.watch", "sync", str(run.root), "--to", proxy.url)
    assert done.stdout == f"{proxy.url}: 13 rows sent, status SCHEDULED\n", done.stderr
    _, found = shown(recipe)
    assert found.data.tags[runs.TAG] == workdir.folder.name
    assert_equal_to_the_ledger(run, recipe)
    failed = workdir.run("jobs.watch", "sync", str(run.root))
    assert failed.returncode == 1
    assert "http://127.0.0.1:9: " in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_of_two_runs_created_at_the_same_moment_the_older_one_remains(
    run: Run, recipe: Recipe
) -> None:
    Training(run).go_on(3)
    client = door.connect(recipe)
    place = runs._experiment(client, recipe)
    identity = read_json(run.identity)["id"]
    older, younger = (
        client.create_run(place, start_time=start, tags={runs.TAG: identity}).info.run_id
        for start in (1000, 2000)
    )
    assert publish(run, recipe) is None
    assert shown(recipe)[1].info.run_id == older
    assert client.get_run(younger).info.lifecycle_stage == "deleted"
    client.delete_run(older)  # by a user: it comes back, and not the other
    run.mlflow_cursor.unlink()
    assert publish(run, recipe) is None
    assert shown(recipe)[1].info.run_id == older


def test_the_export_is_a_logged_model_and_a_version_in_the_registry_without_its_weights(
    run: Run, recipe: Recipe
) -> None:
    training = Training(run)
    training.go_on(3)
    training.end("done")
    for name in ("README.md", "config.json", "model.safetensors"):
        run.export.mkdir(exist_ok=True)
        (run.export / name).write_text(f"of {name}")
    made_from: Any = {"stage": "export", "version": 1, "section": {}, "inputs": {}}
    manifest.commit(run.export, made_from)
    run.samples.mkdir()
    (run.samples / "samples.json").write_text("[]")
    manifest.commit(run.samples, made_from)
    for _ in range(2):
        assert publish(run, recipe) is None
        run.mlflow_cursor.unlink()
    client, found = shown(recipe)
    (model,) = client.search_logged_models([found.info.experiment_id])
    assert (model.status, model.source_run_id) == ("READY", found.info.run_id)
    assert model.tags["ekiden.directory"] == str(run.export)
    held = {file.path for file in client.list_logged_model_artifacts(model.model_id)}
    assert held == {"README.md", "config.json"}
    (version,) = client.search_model_versions(f"run_id = '{found.info.run_id}'")
    assert version.name == "small"
    assert version.tags["ekiden.directory"] == str(run.export)
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert files == {"recipe.json", "samples"}


@pytest.mark.long  # another server: fifteen seconds of a processor
def test_a_server_shows_the_plots_of_the_workspace_and_takes_those_it_is_sent(
    server: MlflowServer, workdir: Workdir, plot: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if "sqlite" not in server.store:
        pytest.skip("its store is not that of a workspace")
    local = workdir.recipe(f"workspace={server.folder}", "tracking.experiment=plots")
    remote = workdir.recipe(f"tracking.mlflow={server.url}", "tracking.experiment=sent")
    for recipe in (local, remote, remote):
        assert publish_candidate(recipe, "bpe", "0a1b", PARAMS, METRICS, plot) is None
    for recipe in (local, remote):
        _, found = shown(recipe)
        assert found.data.metrics == METRICS
        run = found.info.run_id
        url = f"{server.url}/ajax-api/2.0/mlflow/artifacts/list?run_id={run}"
        assert [file["path"] for file in json.loads(fetch(url))["files"]] == ["measures.png"]
        picture = fetch(f"{server.url}/get-artifact?path=measures.png&run_uuid={run}")
        assert picture == plot.read_bytes()
    assert capfd.readouterr().out == ""
