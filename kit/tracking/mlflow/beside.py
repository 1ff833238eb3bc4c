"""Starts the process that publishes a run to MLflow, and ends it: the part of it that rank 0 imports."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from kit.output import log

if TYPE_CHECKING:
    from kit.store.paths import Run

_PROGRAM = "kit.tracking.mlflow.process"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


class Publishing:
    """The process that publishes a run beside its training; see kit/tracking/mlflow/process.py."""

    def __init__(self, run: Run, patience: float = 60.0) -> None:
        """Start it. If it cannot be started, the run is published later.

        Once its attempt is over, it tries for `patience` seconds to reach MLflow.
        """
        self._run, self._patience = run, patience
        self._process = self._started()

    def revive(self) -> None:
        """Start it again if it was killed, as for lack of memory."""
        if self._process is None or self._process.stdin is None or self._process.stdin.closed:
            return
        if (code := self._process.poll()) is not None:
            self._process.stdin.close()
            log.warning(f"mlflow: the publishing process ended (exit code {code}); it starts again")
            self._process = self._started()

    def close(self, patience: float) -> bool:
        """Tell it that the attempt is over; returns whether it ended within `patience` seconds.

        It goes on without this process, but Slurm ends it together with the job step.
        """
        self.revive()
        if self._process is None:
            return False
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _started(self) -> subprocess.Popen[bytes] | None:
        log_file = self._run.mlflow_log
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("ab") as output:
                return subprocess.Popen(
                    [sys.executable, "-m", _PROGRAM, str(self._run.root), str(self._patience)],
                    stdin=subprocess.PIPE,  # closed by the kernel if this rank is killed
                    stdout=output,  # not the task's: Slurm waits until that is closed
                    stderr=output,
                    start_new_session=True,  # it survives this rank while it sends the end
                    env=os.environ | _ONE_THREAD | _NO_GPU,
                )
        except OSError as error:
            log.warning(f"mlflow: no process to publish ({error.strerror}); to be published later")
            return None
