"""MLflow's server over a workspace: its database, backups, passwords, and one server at a time.

It needs the full MLflow, which is not among the packages of a run: the extra `mlflow`, or in a checkout
the environment of `make install-mlflow`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from kit.config import presets
from kit.errors import ConfigError, JobFailed
from kit.output import interrupt
from kit.store.files import write_text
from kit.tracking import sqlite
from kit.watch.services import claim, database, passwords, server, tunnel
from kit.watch.services.tunnel import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

    from kit.store.paths import Workspace
    from kit.watch.services.claim import Claim
    from kit.watch.services.database import Database
    from kit.watch.services.passwords import Login

_PORT = 5000  # MLflow's own default
_WORKERS = "2"  # processes of 250 MB each (measured)
_BACKUP = 10.0  # minutes
_EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name?experiment_name="
_CURVES = "workflowType=machine_learning"  # without it the page shows traces of language models


@dataclass(frozen=True)
class Options:
    """The options of `jobs.watch mlflow`."""

    host: str = LOOPBACK
    port: int | None = None
    login: str | None = None  # the login node
    auth: bool = False
    store: str | None = None
    scratch: Path | None = None
    backup_minutes: float | None = None


def serve(workspace: Workspace, experiment: str, options: Options) -> None:
    """Serve a workspace until stopped.

    Raises ConfigError for options that cannot be used, RunError if another server has the workspace,
    JobFailed if MLflow ends.
    """
    login = passwords.read() if options.auth else None
    _refuse(options)
    command = [*_program(options), "server"]
    if options.auth:
        command += ["--app-name", "basic-auth"]
    chosen = database.choose(workspace, options.store, options.scratch)
    if options.backup_minutes is not None and not chosen.copies:
        raise ConfigError("--backup-minutes: this database has no backup; leave it out")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(server.free_port(options.port, _PORT, options.host))
        stack.enter_context(interrupt.keeping("MLflow's server ends; what it has is kept"))
        own, notes = stack.enter_context(_claimed(workspace, chosen))
        command += ["--host", options.host, "--port", str(port)]
        variables = _variables(workspace, chosen, options.host, login, stack)
        process = stack.enter_context(server.running(command, variables))
        url = f"http://{options.host}:{port}"
        server.wait(process, "MLflow", port)
        page = _page(process, url, experiment, login)
        if own is not None:
            own.set_port(port)
        minutes = options.backup_minutes or _BACKUP
        if chosen.copies:
            kept = workspace.mlflow_server.database
            notes += [f"backup:   {kept}, every {minutes:g} minutes and at the end"]
        if login is not None:
            notes += [f"user:     {login.user}, with the password of your MLflow credentials"]
        tunnel.show("MLflow", port, page, options.login, options.host, notes)
        tick = _Ticks(chosen, own, minutes * 60)
        server.watch(process, "MLflow", tick, every=min(claim.RENEW, minutes * 60))


class _Ticks:
    """The regular work of the process that watches the server."""

    def __init__(self, chosen: Database, own: Claim | None, every: float) -> None:
        self._chosen, self._own, self._every = chosen, own, every
        self._due = time.monotonic()  # the first backup, soon

    def __call__(self) -> None:
        if self._own is not None:
            self._own.renew()
        if time.monotonic() >= self._due:
            database.back_up(self._chosen)
            self._due = time.monotonic() + self._every


@contextlib.contextmanager
def _claimed(workspace: Workspace, chosen: Database) -> Iterator[tuple[Claim | None, list[str]]]:
    """Claim a sqlite database for this process: restored before the block, backed up after it.

    Yields also lines about it.
    """
    if chosen.file is None:
        yield None, [f"database: {chosen.uri}"]
        return
    files = workspace.mlflow_server
    kept = claim.was_killed_here(files, chosen.file)
    with claim.hold(files, chosen.file) as own:
        origin = "left by a server that was killed"
        if chosen.copies and not kept:
            origin, *_ = [copy.restore() for copy in chosen.copies]
        if chosen.file.is_file():
            sqlite.relocate_artifacts(chosen.file, workspace.mlflow)
        where = f"{chosen.file}, {origin}" if chosen.copies else str(chosen.file)
        try:
            yield own, [f"database: {where}"]
        finally:
            with server.shielded():
                if own.is_own():
                    database.leave(chosen)


def _refuse(options: Options) -> None:
    """Raise ConfigError for options that contradict each other."""
    if options.host != LOOPBACK and not options.auth:
        raise ConfigError(
            f"--host {options.host}: other hosts could read and change every run; add --auth"
        )
    if options.store is not None and options.scratch is not None:
        raise ConfigError("--scratch: has no effect on the database of --store; leave one out")
    if options.backup_minutes is not None and options.backup_minutes <= 0:
        raise ConfigError(f"--backup-minutes {options.backup_minutes:g}: write a number above 0")


def _program(options: Options) -> list[str]:
    """The command `mlflow` of an environment with the full MLflow. Raises ConfigError."""
    modules = ["flask", *(["flask_wtf"] if options.auth else [])]
    if (options.store or "").startswith("postgresql:"):
        modules += ["psycopg"]
    if all(importlib.util.find_spec(module) for module in modules):
        return [sys.executable, "-m", "mlflow"]
    own = presets.OWN / ".venv-mlflow" / "bin" / "python"  # as the Makefile installs it
    if not presets.INSTALLED and own.is_file():
        return [str(own), "-m", "mlflow"]
    how = "pip install 'ekiden[mlflow]'" if presets.INSTALLED else "make install-mlflow"
    raise ConfigError(f"MLflow's server is not installed in {sys.prefix}; type: {how}")


def _variables(
    workspace: Workspace,
    chosen: Database,
    host: str,
    login: Login | None,
    stack: contextlib.ExitStack,
) -> dict[str, str]:
    """The server's settings as variables, which other users cannot read, unlike its command line."""
    variables = {
        "MLFLOW_BACKEND_STORE_URI": chosen.uri,
        "MLFLOW_ARTIFACTS_DESTINATION": sqlite.artifacts_of(workspace.mlflow),
        "MLFLOW_WORKERS": os.environ.get("MLFLOW_WORKERS", _WORKERS),
        "MLFLOW_UVICORN_OPTS": "--no-access-log",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if host != LOOPBACK:
        names = (host, socket.gethostname(), socket.getfqdn(), "localhost", LOOPBACK)
        hosts = ",".join(f"{name},{name}:*" for name in dict.fromkeys(names))
        variables["MLFLOW_SERVER_ALLOWED_HOSTS"] = hosts
    if login is not None:
        variables |= _of_auth(chosen, login, stack)
    return variables


def _of_auth(chosen: Database, login: Login, stack: contextlib.ExitStack) -> dict[str, str]:
    """The variables by which MLflow asks for passwords; its own file holds none of them."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ekiden-mlflow-")))
    if (file := sqlite.file_of(chosen.users)) is not None:
        file.touch(0o600)  # hashes of passwords
    uri = chosen.users.replace("%", "%%")
    write_text(
        folder / "auth.ini",
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {uri}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": login.user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": login.password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }


def _page(process: Popen[bytes], url: str, experiment: str, login: Login | None) -> str:
    """The path of the experiment's page. Raises JobFailed if the server does not take the password."""
    address = f"{url}{_EXPERIMENT}{quote(experiment)}"
    if login is not None and server.ask(process, "MLflow", address)[0] != 401:
        raise JobFailed("MLflow: the server answers without a password, in spite of --auth")
    status, body = server.ask(process, "MLflow", address, login.header if login else None)
    if status == 401:
        raise ConfigError(
            "--auth: the server knows your user by another password, that of its first start; restore it "
            "in your MLflow credentials, and change it by MLflow's API"
        )
    if status != 200:  # before the first run
        return f"/#/experiments?{_CURVES}"
    return f"/#/experiments/{json.loads(body)['experiment']['experiment_id']}/runs?{_CURVES}"
