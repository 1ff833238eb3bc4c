"""The report on a run, at its end and with its release, made by a process of its own.

The report shows what all parts of the kit have made, so its command stands above this room. Whatever
becomes of that process, the stage is done: a problem is one line of the log.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kit.output import log

if TYPE_CHECKING:
    from kit.store.paths import Run

_PATIENCE = 600  # seconds; 600,000 steps take about 15


def report(run: Run) -> None:
    """Write the report on a run into its directory; never raises because of it."""
    _report("generate", run, f"try again with ekiden watch report {run.root}")


def public_report(run: Run, folder: Path) -> None:
    """Write the page of the report into a folder to publish, likewise."""
    _report("export", run, "the folder goes without it", "--public", "--out", str(folder))


def _report(stage: str, run: Run, remedy: str, *options: str) -> None:
    command = [sys.executable, "-m", "jobs.watch", "report", str(run.root), *options]
    home = str(Path(__file__).resolve().parents[2])  # the code of this job, and no other
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(f"{stage}: no report: {error}")
        return
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = said[-1] if said else f"exit code {done.returncode}"
    if done.returncode == 0:
        log.info(f"{stage}: report: {last}")
    else:
        log.warning(f"{stage}: no report: {last}; {remedy}")
