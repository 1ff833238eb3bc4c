"""The verbs `logs` and `cancel` on a stage in the background; tests/end_to_end has them on training."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from kit.cluster import lock
from tests.conftest import ROOT
from tests.relay import wait_until
from tests.server import serving
from tests.speed import patience

if TYPE_CHECKING:
    from tests.conftest import Workdir


def follow(*arguments: str) -> subprocess.Popen[str]:
    """`logs --follow`, as its user sees it."""
    command = [sys.executable, "-m", *arguments, "--follow"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_stage_is_followed_until_it_is_cancelled(workdir: Workdir) -> None:
    run = workdir.workspace.run("small")
    with serving() as server:
        server.body, server.hold = workdir.web.read_bytes(), threading.Event()
        server.hold_seconds = patience(300)
        arguments = (str(workdir.recipe_file), f"corpus.sources.web.location={server.url()}")
        none = workdir.run("jobs.download", "logs", *arguments)
        assert none.returncode == 2
        assert none.stderr.startswith(f"error: {run.root}: no log of download")
        assert workdir.run("jobs.pipeline", "submit", *arguments).returncode == 0
        wait_until(lambda: bool(server.asked), "a transfer")
        first, second = (
            follow(f"jobs.{job}", "logs", *arguments) for job in ("download", "pipeline")
        )
        assert first.stdout is not None
        line = next(line for line in first.stdout if "download: web" in line)
        first.send_signal(signal.SIGINT)
        assert "the jobs go on" in first.communicate(timeout=patience(60))[1]
        assert first.returncode == 75
        assert lock.is_held(run)

        refused = workdir.run("jobs.train", "cancel", *arguments)
        assert refused.returncode == 2
        assert "is running download, before train" in refused.stderr
        cancelled = workdir.run("jobs.pipeline", "cancel", *arguments)
        assert not lock.is_held(run)
        server.hold.set()
    assert cancelled.returncode == 0
    assert "download: process " in cancelled.stdout
    assert "evaluate: process " in cancelled.stdout
    assert " was queued; cancelled\n" in cancelled.stdout
    followed, states = second.communicate(timeout=patience(60))
    assert second.returncode == 0
    assert line in followed
    assert states.endswith("download: cancelled, by its user: cancel, scancel, Ctrl-C or kill\n")
    status = workdir.run("jobs.download", "status", *arguments).stdout
    assert "; cancelled\n  reason by its user" in status
