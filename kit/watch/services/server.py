"""A web server as a child process: started on a free port, awaited, watched, ended in order.

with server.running(command) as process:
    server.wait(process, "TensorBoard", "http://127.0.0.1:6006/")
    server.watch(process, "TensorBoard", each_minute, every=60)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from kit.errors import ConfigError, JobFailed
from kit.watch.services.tunnel import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_PORTS = 100  # to try, from a server's usual one
_PATIENCE = 600.0  # seconds for its first answer: imports from a busy parallel file system
_GRACE = 15.0  # seconds from TERM to KILL: with the last backup, less than Slurm's KillWait
_POLL = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Environments of clusters often name a proxy, which does not know this machine's loopback.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port(given: int | None, usual: int, host: str = LOOPBACK) -> int:
    """The port given, or the first free one from a server's usual port. Raises ConfigError."""
    for port in [given] if given else range(usual, usual + _PORTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return port
    taken = str(given) if given else f"{usual} to {usual + _PORTS - 1}"
    free = "leave --port out to get a free one" if given else "name one with --port"
    raise ConfigError(f"--port {taken}: taken on {host} of {socket.gethostname()}; {free}")


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the block lasts, and end it together with this process."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, which ends the server
        preexec_fn=_end_with_parent,  # noqa: PLW1509  no other thread runs
    )
    try:
        yield process
    finally:
        with shielded():
            _end(process)


def wait(process: subprocess.Popen[bytes], name: str, url: str) -> None:
    """Wait for the first answer. Raises JobFailed if the server ends, or does not answer in time."""
    deadline = time.monotonic() + _PATIENCE
    while status(url) != 200:
        if process.poll() is not None:
            raise _ended(process, name)
        if time.monotonic() > deadline:
            raise JobFailed(
                f"{name}: no answer at {url} for {_PATIENCE:.0f} s; see the lines above"
            )
        time.sleep(_POLL)


def watch(
    process: subprocess.Popen[bytes], name: str, tick: Callable[[], None], every: float
) -> None:
    """Call `tick` every `every` seconds while the server runs. Raises JobFailed when it ends."""
    due = time.monotonic() + every
    while process.poll() is None:
        time.sleep(_POLL)
        if time.monotonic() >= due:
            tick()
            due = time.monotonic() + every
    raise _ended(process, name)


def status(url: str, headers: Mapping[str, str] | None = None) -> int | None:
    """The HTTP status of an address; None without an answer."""
    return answer(url, headers)[0]


def answer(url: str, headers: Mapping[str, str] | None = None) -> tuple[int | None, bytes]:
    """The HTTP status of an address and the body of its answer; None without an answer."""
    try:
        request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310  http
        with _DIRECT.open(request, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return None, b""


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Ignore TERM in the block: under Slurm a second one may come while the first is obeyed."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send TERM to the server and its workers, and KILL to those that stay."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(process: subprocess.Popen[bytes], name: str) -> JobFailed:
    return JobFailed(f"{name} ended (exit code {process.returncode}); the lines above say why")


def _end_with_parent() -> None:
    """Make the kernel end the server if this process is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
