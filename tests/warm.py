"""Commands in forks of a process that has imported already what they need.

    from tests.warm import command

is `tests.relay.command` without the four processor seconds of imports of torch, transformers and DeepSpeed
that each command that trains has: for tests that need many of them. `light` and `run` are for commands
that train nothing: their process has imported what they draw, read and check with. The command is the
module's own, run as `python -m` runs it, in a process of its own; so are the fork server and the supervisor
that it starts. A command finds the modules of this checkout imported, as no test changes them; what it
starts imports the kit itself, from the code of its run. Not for tests about how a process starts or ends,
about what is imported, or about command lines of processes: those take the real one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import inspect
import json
import logging
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAINING, OTHERS = "training", "others"
# Packages whose modules import nothing large by themselves.
_LIGHT = (
    "jobs", "kit.config", "kit.store", "kit.run", "kit.data", "kit.plan", "kit.tracking", "kit.corpus",
    "kit.tokenizer", "kit.cluster", "kit.release", "kit.relay", "kit.watch",
)  # fmt: skip
# Modules of the kit with a function that imports the libraries, and libraries.
_PRELOADED = {
    TRAINING: (
        "kit.training.attempt", "kit.release.evaluate", "kit.release.generate",
    ),
    OTHERS: (
        "kit.corpus.preprocess", "fugashi",
        "matplotlib.figure", "matplotlib.backends.backend_agg", "neologdn", "tokenizers", "submitit",
    ),
}  # fmt: skip
# What a command starts of the kit: each by `python -u -m MODULE ARGUMENTS`.
_STARTED = ("kit.cluster.forkserver", "kit.cluster.local")


def command(module: str, *arguments: str, code: int = 0) -> str:
    """Run `python -m jobs.MODULE ARGUMENTS`, check its exit code, and return what it printed."""
    return _checked(_run_in(TRAINING, f"jobs.{module}", *arguments), code)


def light(module: str, *arguments: str, code: int = 0) -> str:
    """Do the same for a command that trains nothing itself."""
    return _checked(run(f"jobs.{module}", *arguments), code)


def _checked(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def training(module: str, *arguments: str) -> str:
    """Run `python -m MODULE ARGUMENTS` of the tests in such a fork, and return what it printed."""
    return _checked(_run_in(TRAINING, module, *arguments), 0)


def run(
    module: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` in the checkout, with more variables, for what does not train."""
    return _run_in(OTHERS, module, *arguments, environment=environment)


def _run_in(
    libraries: str, module: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it in a fork of the process that has imported these."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        request = {
            "module": module,
            "arguments": arguments,
            "folder": str(ROOT),
            # Forks of the command have read it already when they are given a task's environment.
            "environment": os.environ | {"SUBMITIT_LOG_LEVEL": "WARNING"} | (environment or {}),
        }
        code = _ask(libraries, json.dumps(request).encode(), out.fileno(), err.fileno())
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess([module, *arguments], code, out.read(), err.read())


def _ask(libraries: str, request: bytes, out: int, err: int) -> int:
    """Have the server run a command with these files as its output; returns its exit code."""
    server = _server(libraries)
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [out, err])
    server.sendall(request)
    pid = _number(server)
    try:
        return _number(server)
    except BaseException:  # a time-out: as subprocess.run, leave no command behind
        os.kill(pid, signal.SIGKILL)
        _number(server)
        raise


@functools.cache
def _server(libraries: str) -> socket.socket:
    """The connection to the server of this process with these imported, which ends with it."""
    ours, its = socket.socketpair()
    path = {"PYTHONSAFEPATH": "1", "PYTHONPATH": ""}  # what a command has on it, it is told
    subprocess.Popen(
        [sys.executable, __file__, str(its.fileno()), libraries],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | path,
        pass_fds=[its.fileno()],
    )
    its.close()
    return ours


def _number(connection: socket.socket) -> int:
    said = connection.recv(4, socket.MSG_WAITALL)
    assert len(said) == 4, "the server of tests/warm.py has died"
    return int.from_bytes(said, "big", signed=True)


def _serve(connection: socket.socket) -> None:
    """Fork for each request; only a fork returns, when it has done what it was asked."""
    while True:
        size, files, _, _ = socket.recv_fds(connection, 4, 2)
        if not size:
            os._exit(0)
        request = b""
        while len(request) < int.from_bytes(size, "big"):
            request += connection.recv(1 << 16)
        if pid := os.fork():
            for file in files:
                os.close(file)
            connection.sendall(pid.to_bytes(4, "big"))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            connection.sendall(code.to_bytes(4, "big", signed=True))
            continue
        asked = json.loads(request)
        null = os.open(os.devnull, os.O_RDONLY)
        os.setsid()
        if asked["environment"].get("PYTHONPATH"):  # there may be other code
            _forget_code()
        _become(
            asked["module"],
            asked["arguments"],
            asked["folder"],
            asked["environment"],
            [null, *files],
        )


def _become(
    module: str,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    standard: list[int],
    kept: tuple[int, ...] = (),
    *,
    unbuffered: bool = False,
) -> None:
    """Be the process that `python -m MODULE ARGUMENTS` would be, to its end."""
    gc.freeze()  # the files of the process before are closed below, not by their objects
    atexit._clear()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, file in enumerate(standard):
        os.dup2(file, target)
    _close_all_but(kept)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    given = environment.get("PYTHONPATH", "")
    sys.path[:] = [
        *([] if environment.get("PYTHONSAFEPATH") else [folder]),
        *(given.split(os.pathsep) if given else []),
        *_LIBRARIES,
    ]
    sys.modules.pop(module, None)  # a main module is never imported before
    sys.argv[:] = [module, *arguments]
    sys.stdout.reconfigure(write_through=unbuffered)
    subprocess.Popen = _Popen
    os._exit(_run(module))


def _forget_code() -> None:
    """Have the kit imported anew, from where the path leads to."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("jobs", "kit", "tests")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    logging.Logger.manager.loggerDict.pop("ekiden", None)  # with the handler that the kit gave it


def _close_all_but(kept: tuple[int, ...]) -> None:
    for path in tuple(Path("/proc/self/fd").iterdir()):
        if int(path.name) > 2 and int(path.name) not in kept:
            with contextlib.suppress(OSError):  # that of the folder itself
                os.close(int(path.name))


def _run(module: str) -> int:
    """Run a module as the main one, and what is due at the end of a process; returns its exit code."""
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


class _Popen(subprocess.Popen):  # type: ignore[type-arg]
    """As it was; but what is of the kit is forked from here, where all is imported."""

    def _execute_child(self, *given: Any) -> None:
        of = inspect.signature(super()._execute_child).bind(*given).arguments
        if not _is_started(of["args"], of["env"]):
            return super()._execute_child(*given)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            if of["start_new_session"]:
                os.setsid()
            ends = (of["p2cread"], of["c2pwrite"], of["errwrite"])
            standard = [target if end == -1 else end for target, end in enumerate(ends)]
            _, _, _, module, *arguments = of["args"]
            folder, kept = of["cwd"] or str(Path.cwd()), tuple(of["pass_fds"])
            _forget_code()
            _become(module, arguments, folder, of["env"], standard, kept, unbuffered=True)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(of[name] for name in pipes))
        return None


def _is_started(command: Any, environment: dict[str, str]) -> bool:
    """Whether it is one of `_STARTED` that needs no Python of its own."""
    if list(command[:3]) != [sys.executable, "-u", "-m"] or command[3] not in _STARTED:
        return False
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    hooks = any((Path(folder) / "sitecustomize.py").exists() for folder in path)
    return not hooks and threading.active_count() == 1


if __name__ == "__main__":
    _LIBRARIES = list(sys.path)
    sys.path.insert(0, str(ROOT))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it has a thread, which no fork would have
    with importlib.import_module("kit.run.environment").importing():
        for package in _LIGHT:
            for found in pkgutil.walk_packages(
                importlib.import_module(package).__path__, f"{package}."
            ):
                if not found.name.endswith("__main__"):
                    importlib.import_module(found.name)
        for name in _PRELOADED[sys.argv[2]]:
            getattr(importlib.import_module(name), "preload", lambda: None)()
    _serve(socket.socket(fileno=int(sys.argv[1])))
