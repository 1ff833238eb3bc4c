"""A real MLflow server for tests, a PostgreSQL for it, and a proxy before it that fails in every way."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Iterator

Mode = Literal["open", "slow", "broken", "hanging", "away"]
_SLOW, _BUFFER = 2.0, 1 << 16  # seconds; bytes
_BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
_POSTGRES = Path("/usr/lib/postgresql")


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class MlflowServer:
    """`mlflow server` in a folder, on any store; it can be killed and started again."""

    folder: Path
    store: str = "sqlite:///mlflow.db"
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self.folder / "server.log"
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--workers", "1",
                 "--port", str(self.port), "--backend-store-uri", self.store],
                cwd=self.folder, stdout=output, stderr=output, start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                                  "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"},
            )  # fmt: skip
        deadline = time.monotonic() + patience(120)
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                fetch(f"{self.url}/health")
                return
            time.sleep(0.1)
        raise AssertionError(log.read_text())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, with its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, number)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def serving(folder: Path, store: str = "sqlite:///mlflow.db") -> Iterator[MlflowServer]:
    """A server while the block runs; skips the test if the extra `mlflow` is not installed."""
    if importlib.util.find_spec("mlflow.server.fastapi_app") is None:
        pytest.skip("the extra `mlflow` is not installed")
    server = MlflowServer(folder, store)
    try:
        server.start()
        yield server
    finally:
        server.kill(signal.SIGTERM)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL while the block runs, as a URI; skips the test if there is none, or no driver for it."""
    pytest.importorskip("psycopg")
    programs = sorted(_POSTGRES.glob("*/bin"))
    if not programs or os.geteuid() != 0:
        pytest.skip("needs PostgreSQL, and root to start it as its own user")
    port, data = free_port(), Path(tempfile.mkdtemp())  # not pytest's: its user may not enter that
    shutil.chown(data, "postgres")

    def program(name: str, *arguments: str) -> None:
        command = ["runuser", "-u", "postgres", "--", str(programs[-1] / name), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    program("initdb", "-D", str(data), "--auth=trust")
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
    program("pg_ctl", "-D", str(data), "-w", "-o", options, "-l", str(data / "log"), "start")
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        program("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(data)


class Proxy:
    """A port before a server: open, slow, answering 500, hanging without an answer, or away."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode: Mode = "open"
        self._open: set[socket.socket] = set()
        self.asked: dict[Mode, int] = {}  # connections by mode
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, mode: Mode) -> None:
        """Behave in this way from now on; connections that are open are cut."""
        self._mode = mode
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.become("away")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                self.asked[self._mode] = self.asked.get(self._mode, 0) + 1
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        mode = self._mode
        self._open.add(connection)
        with connection, contextlib.suppress(OSError):
            if mode == "broken":
                connection.recv(_BUFFER)
                connection.sendall(_BROKEN)
            if mode == "hanging":
                while connection.recv(_BUFFER):
                    pass
            if mode in ("open", "slow"):
                time.sleep(_SLOW if mode == "slow" else 0)
                self._pass_on(connection)
        self._open.discard(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=_copy, args=[server, connection], daemon=True)
            back.start()
            _copy(connection, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BUFFER):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def fetch(url: str) -> bytes:
    """The body of an answer. Raises OSError."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
    return body
