"""A fork server: forks tasks from a process that has already imported the libraries they need.

    python -m kit.cluster.forkserver REPLIES RUN NAME

On a CPU the imports of torch, transformers and DeepSpeed take longer than a short run trains; here
they are done once for all ranks, attempts and stages. Each task is still a separate process with its
own session, log and environment, and a child of the supervisor. Not for GPUs: CUDA cannot be used in
forks of a process that has initialised it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import entry, launch, local_task, task
from kit.errors import Interrupted, JobFailed
from kit.output import log
from kit.run.environment import importing

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_POLL = 0.1
_QUIET = 2.0  # seconds of waiting before a log line
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # linux/prctl.h


@dataclass
class Forked:
    """A child of this process, forked by another; has the methods of Popen that are needed."""

    pid: int
    _code: int | None = None

    def poll(self) -> int | None:
        """The exit code once it has ended, -n after signal n; else None."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@dataclass(frozen=True)
class _Request:
    """A task for the server to fork."""

    module: str  # its `preload`, if it has one, is called before the fork
    folder: str
    log: str
    environment: dict[str, str]
    title: str  # JOB.RESTARTS/RANK, as `ps -o comm` shows it; 15 bytes at most


class ForkServer:
    """The supervisor's side. The server starts with the first task, and restarts if the code is amended."""

    def __init__(self, run: Run, cluster: Cluster, stopped: Callable[[], bool]) -> None:
        """`stopped`: whether the supervisor has been asked to stop, which ends the wait for an import."""
        self._run, self._cluster, self._stopped = run, cluster, stopped
        self._code: tuple[str, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._replies = -1

    def fork(self, one: local_task.LocalTask, module: str, title: str) -> Forked:
        """Start a task. Raises Interrupted if it is stopped first, JobFailed if the server dies."""
        request = _Request(module, str(one.folder), str(one.log), one.environment, title)
        line = f"{json.dumps(asdict(request))}\n".encode()
        code = (str(self._run.code.resolve()), self._run.environment.read_text(encoding="utf-8"))
        if self._process is None or self._process.poll() is not None or code != self._code:
            self.close()
            self._process, self._code = self._start(), code
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a missing reply reveals it
            self._process.stdin.write(line)
            self._process.stdin.flush()
        return Forked(self._reply(title))

    def close(self) -> None:
        """End the server; its forks keep running."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            os.close(self._replies)
            self._process = None
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)

    def _start(self) -> subprocess.Popen[bytes]:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the forks become our children
        self._replies, replies = os.pipe()
        module, run, log = "kit.cluster.forkserver", self._run.root, self._run.forkserver_log
        command = [
            sys.executable,
            "-u",
            "-m",
            module,
            str(replies),
            str(run),
            local_task.SUPERVISOR,
        ]
        mine = {"EKIDEN_SUPERVISOR": str(os.getpid())}
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env=os.environ | launch.job_environment(self._run, self._cluster) | mine,
                pass_fds=[replies],
            )
        os.close(replies)
        return process

    def _reply(self, title: str) -> int:
        """The process id of the requested task, once the server has finished its imports."""
        due = time.monotonic() + _QUIET
        while not select.select([self._replies], [], [], _POLL)[0]:
            if time.monotonic() > due:
                due = math.inf
                log.info(f"{title.split('-', maxsplit=1)[0]}: waiting for imports")
            if self._stopped():
                raise Interrupted("stopped before it began; the same command resumes it")
        reply = os.read(self._replies, 20)
        if not reply:
            raise JobFailed(f"the fork server died; see {self._run.forkserver_log}")
        return int(reply)


def main(replies: int) -> None:
    """The server: import and fork on request, until the supervisor closes the pipe or dies."""
    entry.end_with(int(os.environ["EKIDEN_SUPERVISOR"]))
    for line in sys.stdin:
        request = _Request(**json.loads(line))
        with importing():  # frozen after it: no collection copies the pages that the forks share
            _preload(request.module)
        if intermediate := os.fork():
            os.waitpid(intermediate, 0)
            continue
        parent = os.getpid()
        if os.fork():  # when its parent exits, the supervisor inherits the task
            os._exit(0)
        while os.getppid() == parent:
            time.sleep(0.001)
        os.write(replies, str(os.getpid()).encode())
        os.close(replies)
        _become(request)
        if words := os.environ.get(task.WORDS):
            task.main(words.split("\n"))
        else:  # of a supervisor that began with an earlier version
            launch.run_pickled(Path(request.folder))
        return


def _preload(module: str) -> None:
    # An import that fails here fails in the task again, which logs it.
    with contextlib.suppress(Exception):
        getattr(importlib.import_module(module), "preload", lambda: None)()


def _become(request: _Request) -> None:
    """Give this fork the session, name, log and environment of a task's own process."""
    os.setsid()  # the supervisor passes on a Ctrl-C
    ctypes.CDLL(None).prctl(_PR_SET_NAME, request.title.encode())
    log = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    os.environ |= request.environment


if __name__ == "__main__":
    main(int(sys.argv[1]))
