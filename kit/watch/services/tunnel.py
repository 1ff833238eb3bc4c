"""How a browser reaches a server on a node: the command of an ssh tunnel."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOPBACK = "127.0.0.1"
_OF_NODE = (LOOPBACK, "0.0.0.0")  # noqa: S104  what localhost reaches on the node
LOGIN = "EKIDEN_LOGIN"  # the login node's name as your computer knows it


def show(
    name: str,
    port: int,
    page: str,
    login: str | None,
    host: str = LOOPBACK,
    notes: Sequence[str] = (),
) -> None:
    """Print `lines`, and more of them, at once: a job's log is a file."""
    print(*lines(name, port, page, login, host), *notes, sep="\n", flush=True)


def lines(
    name: str,
    port: int,
    page: str,
    login: str | None = None,
    host: str = LOOPBACK,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """The node and port of a server, the command for your computer, and the page to open there.

    In a job the tunnel leads through the login node: `login`, the variable EKIDEN_LOGIN, or the host
    that the job was submitted from. `host` is the server's address on its node.
    """
    job = environ.get("SLURM_JOB_ID")
    node = environ.get("SLURMD_NODENAME") or socket.gethostname()
    user = getpass.getuser()
    login = login or environ.get(LOGIN) or environ.get("SLURM_SUBMIT_HOST")
    jump = ["-J", f"{user}@{login}"] if login and login != node else []
    end = f"{'localhost' if host in _OF_NODE else host}:{port}"
    command = shlex.join(["ssh", "-N", "-L", f"{port}:{end}", *jump, f"{user}@{node}"])
    return [
        f"{name}: port {port} of {node}{f', job {job}' if job else ''}",
        f"on your computer, type:  {command}",
        f"and open:                http://localhost:{port}{page}",
    ]
