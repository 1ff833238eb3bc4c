"""TensorBoard and MLflow as services: what their pages are fed with, and what outlives them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.errors import INTERRUPTED, JobFailed
from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.watch.services import server, tunnel
from tests.relay import wait_until
from tests.services import API, CREDENTIALS, Service, ask, draw, serving
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two runs of some steps."""
    made = Workspace(tmp_path / "work")
    for name, steps in {"short": 3, "long": 1010}.items():
        draw(made.run(name), steps)
    return made


def needs(package: str) -> None:
    """Skip the test without a package of requirements-dev.lock; with CI=true, fail."""
    if importlib.util.find_spec(package) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no {package} here")


def make_run(said: str, loss: float, user: dict[str, str] | None = None) -> str:
    """A run with a loss, made as a client makes it; returns its id."""
    known = ask(said, f"{API}/experiments/get-by-name?experiment_name=ekiden", user=user)
    if known == 404:
        ask(said, f"{API}/experiments/create", {"name": "ekiden"}, user)
        known = ask(said, f"{API}/experiments/get-by-name?experiment_name=ekiden", user=user)
    experiment = known["experiment"]["experiment_id"]
    made = ask(said, f"{API}/runs/create", {"experiment_id": experiment, "start_time": 1}, user)
    run: str = made["run"]["info"]["run_id"]
    row = {"run_id": run, "key": "train/loss", "value": loss, "timestamp": 1, "step": 1}
    assert ask(said, f"{API}/runs/log-metric", row, user) == {}
    return run


def losses(said: str, run: str, user: dict[str, str] | None = None) -> list[float]:
    history = ask(said, f"{API}/metrics/get-history?metric_key=train/loss&run_id={run}", user=user)
    return [metric["value"] for metric in history["metrics"]]


def test_tensorboard_shows_all_runs_of_a_workspace_and_every_step(
    workspace: Workspace, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", "tensorboard", str(workspace.root)) as service:
        shown: Any = []

        def is_read() -> bool:
            shown[:] = ask(service.said, "/data/runs")
            return len(shown) == 2

        wait_until(is_read, "runs in TensorBoard")
        assert sorted(shown) == ["long", "short"]
        points = "/data/plugin/scalars/scalars?run=long&tag=train/loss"
        wait_until(lambda: len(ask(service.said, points)) == 1010, "every step in TensorBoard")
        assert f"port {port_of(service)} of {socket.gethostname()}" in service.said
        assert service.end(signal.SIGTERM) == INTERRUPTED
    assert not is_open(port_of(service))


def port_of(service: Service) -> int:
    return int(service.said.partition(": port ")[2].split()[0])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_server_of_somebody_else_at_the_port_is_not_taken_for_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_PATIENCE", patience(20))
    serve = [sys.executable, "-m", "http.server", "--bind", tunnel.LOOPBACK]
    with server.free_port(None, 46000) as port, server.running([*serve, str(port)]) as theirs:
        server.wait(theirs, "theirs", port)
        assert server.ask(theirs, "theirs", f"http://{tunnel.LOOPBACK}:{port}/nothing")[0] == 404
        monkeypatch.setattr(server, "_PATIENCE", 0.1)
        with (
            server.running(["sleep", "60"]) as ours,
            pytest.raises(JobFailed, match="ours: no answer"),
        ):
            server.wait(ours, "ours", port)
    with server.running(["false"]) as ended, pytest.raises(JobFailed, match=r"exit code 1"):
        server.wait(ended, "ours", port)


def test_mlflow_asks_for_a_password_and_backs_its_database_up_when_it_is_ended(
    workspace: Workspace, tmp_path: Path
) -> None:
    needs("flask_wtf")
    arguments = ("mlflow", str(workspace.root), "--auth", "--scratch", str(tmp_path / "node"))
    with serving(tmp_path / "log", *arguments, **CREDENTIALS) as service:
        assert ask(service.said, f"{API}/experiments/search?max_results=1") == 401
        wrong = CREDENTIALS | {"MLFLOW_TRACKING_PASSWORD": "something else"}
        assert ask(service.said, f"{API}/experiments/search?max_results=1", user=wrong) == 401
        run = make_run(service.said, 2.5, CREDENTIALS)
        assert CREDENTIALS["MLFLOW_TRACKING_PASSWORD"] not in words_of(service)
        assert service.end(signal.SIGTERM) == INTERRUPTED
    files = workspace.mlflow_server
    assert not files.record.exists()
    assert rows(files.database, "SELECT run_uuid, value FROM metrics") == [(run, 2.5)]
    assert rows(files.users, "SELECT username, is_admin FROM users") == [("me", 1)]


def rows(file: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


@pytest.mark.long
def test_mlflow_on_another_host_has_what_the_last_one_backed_up(
    workspace: Workspace, tmp_path: Path
) -> None:
    needs("flask_wtf")
    arguments = ("mlflow", str(workspace.root), "--auth", "--scratch")
    with serving(tmp_path / "1", *arguments, str(tmp_path / "node1"), **CREDENTIALS) as service:
        run = make_run(service.said, 2.5, CREDENTIALS)
    shutil.rmtree(tmp_path / "node1")
    with serving(tmp_path / "2", *arguments, str(tmp_path / "node2"), **CREDENTIALS) as service:
        assert "restored from a backup" in service.said
        assert losses(service.said, run, CREDENTIALS) == [2.5]
        assert "runs?workflowType" in service.said


def words_of(service: Service) -> str:
    """The command lines of a service and its children, which every user of a node can read."""
    session = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    ours = {str(service.process.pid)}
    lines = []
    for line in session.splitlines()[1:]:
        pid, parent, words = line.split(maxsplit=2)
        if pid in ours or parent in ours:
            ours.add(pid)
            lines.append(words)
    assert len(lines) > 1
    return "\n".join(lines)


@pytest.mark.long
def test_a_killed_mlflow_continues_with_its_own_file_and_no_second_one_starts_beside_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    arguments = ("mlflow", str(workspace.root), "--scratch", str(tmp_path / "node"))
    with serving(tmp_path / "1", *arguments) as service:
        run = make_run(service.said, 2.5)
        with pytest.raises(AssertionError, match="has an MLflow server already"):
            serving(tmp_path / "2", *arguments).__enter__()
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not is_open(port_of(service)), "end of the server")
    assert workspace.mlflow_server.record.exists()
    with serving(tmp_path / "3", *arguments) as service:
        assert "left by a server that was killed" in service.said
        assert losses(service.said, run) == [2.5]


@pytest.mark.long
def test_mlflow_serves_the_file_of_a_workspace_on_a_local_disk_as_it_is(
    workspace: Workspace, tmp_path: Path
) -> None:
    with serving(tmp_path / "1", "mlflow", str(workspace.root)) as service:
        assert f"database: {workspace.mlflow}\n" in service.said
        assert read_json(workspace.mlflow_server.record)["port"] == port_of(service)
        run = make_run(service.said, 2.5)
    with serving(tmp_path / "2", "mlflow", str(workspace.root)) as service:
        assert losses(service.said, run) == [2.5]


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A PostgreSQL of the test's own: the URI of a database, and the password of its user."""
    needs("psycopg")
    if not POSTGRES:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    folder, password = Path("/tmp") / f"ekiden-postgres-{os.getpid()}", "elephants never forget"
    folder.mkdir()
    (folder / "password").write_text(password)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")
    data = str(folder / "data")
    make = [
        "initdb",
        "-D",
        data,
        "-U",
        "keeper",
        "-A",
        "scram-sha-256",
        f"--pwfile={folder}/password",
    ]
    start = [
        "pg_ctl",
        "-D",
        data,
        "-w",
        "-l",
        f"{folder}/log",
        "-o",
        f"-p {port} -k {folder}",
        "start",
    ]
    bin_ = POSTGRES[-1]
    subprocess.run(
        [*user, bin_ / make[0], *make[1:]], check=True, cwd="/", stdout=subprocess.DEVNULL
    )
    subprocess.run(
        [*user, bin_ / start[0], *start[1:]], check=True, cwd="/", stdout=subprocess.DEVNULL
    )
    yield f"postgresql://keeper@127.0.0.1:{port}/postgres", password
    stop = ["-D", data, "-m", "immediate", "stop"]
    subprocess.run([*user, bin_ / "pg_ctl", *stop], check=True, cwd="/", stdout=subprocess.DEVNULL)
    shutil.rmtree(folder)


@pytest.mark.long
def test_mlflow_on_postgresql_takes_its_password_from_the_environment(
    workspace: Workspace, postgres: tuple[str, str], tmp_path: Path
) -> None:
    uri, password = postgres
    needs("flask_wtf")
    arguments = ("mlflow", str(workspace.root), "--store", uri, "--auth")
    secrets = CREDENTIALS | {"PGPASSWORD": password}
    with serving(tmp_path / "1", *arguments, **secrets) as service:
        assert password not in words_of(service)
        assert ask(service.said, f"{API}/experiments/search?max_results=1") == 401
        run = make_run(service.said, 2.5, CREDENTIALS)
    with serving(tmp_path / "2", *arguments, **secrets) as service:
        assert losses(service.said, run, CREDENTIALS) == [2.5]
    assert not workspace.mlflow.exists()
