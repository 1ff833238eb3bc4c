"""A web server as a child process: started on a free port, awaited, watched, ended in order.

with server.running(command) as process:
    server.wait(process, "TensorBoard", "http://127.0.0.1:6006/")
    server.watch(process, "TensorBoard", each_minute, every=60)
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import ConfigError, JobFailed
from kit.watch.services.tunnel import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_PORTS = 100  # to try, from a server's usual one
_PATIENCE = 600.0  # seconds for its first answer: imports from a busy parallel file system
_ANSWER = 10.0  # seconds for one request
_GRACE = 15.0  # seconds from TERM to KILL: with the last backup, less than Slurm's KillWait
_POLL = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Environments of clusters often name a proxy, which does not know this machine's loopback.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def free_port(given: int | None, usual: int, host: str = LOOPBACK) -> Iterator[int]:
    """The port given, or the first free one from a server's usual port, held for the block.

    A server takes half a minute to listen; meanwhile a second one would choose the same port. Raises
    ConfigError.
    """
    for port in [given] if given else range(usual, usual + _PORTS):
        # An abstract name, see unix(7): one for all users of this machine, gone with its process.
        with socket.socket(socket.AF_UNIX) as held, socket.socket() as probe:
            try:
                held.bind(f"\0ekiden-port-{port}")
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
                probe.bind((host, port))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    where = f"--host {host}: no address of {socket.gethostname()}"
                    raise ConfigError(f"{where}; name one of its own, or leave it out") from None
                continue
            probe.close()
            yield port
            return
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


def wait(process: subprocess.Popen[bytes], name: str, port: int) -> None:
    """Wait until the server listens, and not another one that was faster.

    Raises JobFailed if the server ends, or does not listen in time.
    """
    deadline = time.monotonic() + _PATIENCE
    while not _listens(process, port):
        _check(process, name, deadline)


def ask(
    process: subprocess.Popen[bytes], name: str, url: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Wait for an answer of a server that listens; returns its HTTP status and its body.

    Raises JobFailed as `wait` does.
    """
    deadline = time.monotonic() + _PATIENCE
    while (reply := _answer(url, headers)) is None:
        _check(process, name, deadline)
    return reply


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


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Ignore TERM in the block: under Slurm a second one may come while the first is obeyed."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(process: subprocess.Popen[bytes], name: str, deadline: float) -> None:
    """Pause, unless the server has ended or its time is up."""
    if process.poll() is not None:
        raise _ended(process, name)
    if time.monotonic() > deadline:
        raise JobFailed(f"{name}: no answer for {_PATIENCE:.0f} s; see the lines above")
    time.sleep(_POLL)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether a process of the server's session listens at a port."""
    sockets = set()
    for table in ("tcp", "tcp6"):  # proc_net(5): local address, state 0A (listening), inode
        with contextlib.suppress(FileNotFoundError):
            rows = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            for _, local, _, state, *more in map(str.split, rows):
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{more[5]}]")
    return any(_holds(path, sockets) for path in _session(process.pid))


def _session(leader: int) -> Iterator[Path]:
    """The folders in /proc of a session's processes."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(path.name)) == leader:
                yield path


def _holds(process: Path, sockets: set[str]) -> bool:
    """Whether a process has one of these sockets open."""
    with contextlib.suppress(OSError):
        return any(str(link.readlink()) in sockets for link in (process / "fd").iterdir())
    return False


def _answer(url: str, headers: Mapping[str, str] | None) -> tuple[int, bytes] | None:
    """The HTTP status of an address and the body of its answer; None without an answer."""
    try:
        request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310  http
        with _DIRECT.open(request, timeout=_ANSWER) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return None


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
