"""When Slurm let a start of the training job be submitted, eligible and started: asked once, by rank 0.

Training does not wait for the answer, which may take a minute on a busy controller: a thread writes it to a
file, and rank 0 reads that file if it is there by then.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from kit.cluster import jobs, state
from kit.errors import ClusterError
from kit.store.files import write_json

if TYPE_CHECKING:
    from kit.store.paths import Run
    from kit.store.records import JobTimes, StartTimes


def record(run: Run, name: str) -> None:
    """Begin to ask, if this is rank 0 of a training job on Slurm."""
    of_training = os.environ.get(jobs.RESOURCES) == "training" and os.environ["RANK"] == "0"
    if of_training and "SLURM_JOB_ID" in os.environ:
        threading.Thread(target=_record, args=(run, name), daemon=True, name="job times").start()


def _record(run: Run, name: str) -> None:
    with contextlib.suppress(ClusterError, OSError):  # unknown then
        write_json(run.job_times(name, jobs.token()), of_fields(state.fields(state.own_id())))


def of_fields(fields: dict[str, str]) -> JobTimes:
    """The times in the fields of `scontrol show job`. After a requeue SubmitTime is that of the requeue."""
    times: StartTimes = {}
    if (submitted := state.unix(fields.get("SubmitTime", ""))) is not None:
        times["submitted"] = submitted
    if (eligible := state.unix(fields.get("EligibleTime", ""))) is not None:
        times["eligible"] = eligible
    if (started := state.unix(fields.get("StartTime", ""))) is not None:
        times["started"] = started
    return {"times": times, "nodes": fields.get("NodeList", "")}
