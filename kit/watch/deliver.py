"""Deliver a message by the user's own command, and tell a dead man's switch that the guard is alive.

    if problem := by_command(command, facts, 30.0, folder): ...
    if problem := ping("https://hc-ping.com/...", 30.0): ...

Both return why it failed, on one line without secrets, or None. Neither raises.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from kit.output.redaction import without_addresses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOWN = 200  # characters of a problem


def by_command(command: str, facts: Mapping[str, Any], timeout: float, folder: Path) -> str | None:
    """Run a shell command in a folder, with a message on standard input; None if it exits with 0.

    After `timeout` seconds, or if this process is stopped, it is killed with all that it started.
    """
    names = {"EKIDEN_SUBJECT": facts["subject"], "EKIDEN_MESSAGE": facts["message"]}
    text = json.dumps(facts, ensure_ascii=False) + "\n"
    # No pipe: a process in the background may keep it open.
    with tempfile.TemporaryFile() as output:
        # A signal that came between the command's start and the `try` below would leave it running alone.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        unblock = functools.partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        try:
            process = subprocess.Popen(  # noqa: S602  the user's own
                command,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=folder if folder.is_dir() else None,
                env=os.environ | names,
                start_new_session=True,
                preexec_fn=unblock,  # noqa: PLW1509  no other thread runs
            )
        except OSError as error:
            unblock()
            return _brief(f"alerts.command: {error}")
        try:
            unblock()
            process.communicate(text.encode(), timeout)
        except subprocess.TimeoutExpired:
            return f"alerts.command: no end after {timeout:g} s, killed"
        finally:
            if process.poll() is None:
                _kill(process)
        if process.returncode == 0:
            return None
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return _brief(f"alerts.command: exit code {process.returncode}: {lines[-1] if lines else ''}")


def ping(url: str, timeout: float) -> str | None:
    """Request a URL; None if it answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310  checked by the recipe
            answer.read(1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        status = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        return _brief(f"alerts.heartbeat_url: {url}: {status}{reason}")
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _brief(text: str) -> str:
    return " ".join(without_addresses(text).split()).rstrip(": ")[:_SHOWN]
