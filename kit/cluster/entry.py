"""Entry point of every task: sets up log and signals, checks the environment, chooses the exit code."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from kit.cluster import addresses, job_times, time_limit
from kit.cluster.jobs import token
from kit.cluster.preflight import start
from kit.errors import INTERRUPTED, USER_MISTAKE, EkidenError, Interrupted
from kit.output import log, streams
from kit.run.environment import check_environment
from kit.store.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.cluster.jobs import Work
    from kit.store.paths import Run

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def perform(
    work: Work, run: Run, name: str, task: int, tasks: int, ranks: Mapping[str, str]
) -> None:
    """Run a task in this process; `ranks` are the environment variables with its rank.

    A user's mistake ends it with one line and exit code 2.
    """
    streams.spare_both()
    # At exit the interpreter would search the objects of torch and transformers for garbage, for two
    # seconds: not worth holding a node.
    atexit.register(gc.freeze)
    os.environ |= {**ranks, "EKIDEN_JOB": token()}
    # In place of submitit's handlers: a task ends at once, and its unit is redone; the training job
    # installs its own.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if not os.environ.get("EKIDEN_END_TIME", "").isdecimal():  # NONE: there is no limit
        os.environ.pop("EKIDEN_END_TIME", None)
    log.set_place("")
    log.info(f"{name}: job {os.environ['EKIDEN_JOB']} on {socket.gethostname()}")
    try:
        if "EKIDEN_SUPERVISOR" in os.environ:
            end_with(int(os.environ["EKIDEN_SUPERVISOR"]))
        job_times.record(run, name)
        time_limit.begin(run, name)
        if os.environ["RANK"] == "0":  # the others come to its node
            addresses.publish()
        if name != start.CHECK:  # which reports it as one of its findings
            check_environment(run)
        start.before_attempt(run, name)
        work(run, task, tasks)
    except Interrupted as interrupted:
        log.info(f"{name}: {interrupted}")
        sys.exit(INTERRUPTED)
    except EkidenError as error:
        if error.exit_code == USER_MISTAKE:
            write_json(run.mistake(name), {"job": token(), "message": str(error)})
        log.error(f"{name}: {error}")
        sys.exit(error.exit_code)


def end_with(supervisor: int) -> None:
    """Let the kernel send SIGTERM when the local supervisor dies; raises Interrupted if it is dead."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it has died already: no signal will come
        raise Interrupted(f"the supervisor, process {supervisor}, has died")
