"""What the tests of services share: starting one, reading its port, and asking it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.relay import resolve
from tests.drawn import Attempt
from tests.relay import DEMO, NOWHERE, ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run

LIGHT = {"MLFLOW_WORKERS": "1"}  # a worker takes four seconds of a processor to start
CREDENTIALS = {
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": "correct horse battery",
}
API = "/api/2.0/mlflow"


@dataclass
class Service:
    """A service that runs as `jobs.watch`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def end(self, number: int) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(log: Path, *arguments: str, **variables: str) -> Iterator[Service]:
    """`jobs.watch ARGUMENTS` for as long as the block lasts."""
    environment = os.environ | LIGHT | variables
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.watch", *arguments],
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    service = Service(process, log)
    try:
        wait_until(lambda: opened(service.said) or process.poll() is not None, "answer")
        assert process.poll() is None, service.said
        yield service
    finally:
        process.terminate()
        process.wait(60)


def opened(said: str) -> str | None:
    """The address to open, that a service has printed last."""
    found = re.findall(r"and open: +http://localhost(:\d+/\S*)", said)
    return f"http://127.0.0.1{found[-1]}" if found else None


def ask(said: str, path: str, body: Any = None, user: dict[str, str] | None = None) -> Any:
    """The JSON that a service answers, or the HTTP status of a refusal."""
    address = urllib.parse.urlsplit(opened(said))
    headers = {"Content-Type": "application/json"}
    if user is not None:
        both = ":".join(user.values()).encode()
        headers["Authorization"] = f"Basic {base64.b64encode(both).decode()}"
    request = urllib.request.Request(
        f"http://{address.netloc}{path}",
        None if body is None else json.dumps(body).encode(),
        headers,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code


def draw(run: Run, steps: int) -> None:
    """The ledger and the event file of an attempt."""
    recipe = resolve.load(DEMO, [NOWHERE], "local").recipe
    Attempt(run, recipe, 1, 0).steps(range(1, steps + 1)).killed()
