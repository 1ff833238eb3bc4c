"""A budget for time limits: starts that get nowhere within theirs are not repeated for ever.

A limit that is shorter than the start-up, or than a step and a save, would be met again by every start.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from kit.cluster import task_logs
from kit.store.job_tokens import job_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from kit.config.cluster import TrainingResources
    from kit.store.paths import Run

REASON = "time limit"
NO_UNIT = f"{REASON} before a unit was finished"
STARTS = 3  # in a row that got nowhere; the last of them is not requeued


def fruitless(
    rows: Sequence[Mapping[str, Any]], progress: Sequence[int], jobs: Collection[str]
) -> int:
    """How many starts of the training, with the present one, ended at their limit without a checkpoint.

    `rows` are decisions; those on `jobs` count, since the newest checkpoint, whose `progress` is given.
    """
    number, best = 1, [0, 0]
    for row in rows:
        if row["name"] != task_logs.TRAIN:
            continue
        if row["progress"] > best:
            number, best = 1, row["progress"]
        elif row["reason"].startswith(REASON) and job_of(row["job"]) in jobs:
            number += 1
    return 0 if [*progress] > best else number


def remedy(training: TrainingResources, times: int) -> str:
    """The reason for an end after a number of starts, with the key to raise."""
    # The start-up took more than the limit but for the margin that the loop leaves for a save.
    margin = math.ceil(1.5 * training.warning_seconds / 60)
    enough = training.minutes + max(training.minutes, margin)
    return (
        f"{REASON}, {times} times without a new checkpoint: cluster.training.minutes="
        f"{training.minutes} is less than a start, a step and a save take; amend it to {enough} or more"
    )


def finished_a_unit(run: Run, name: str, token: str) -> bool:
    """Whether a start of a task has finished a unit: it logs each one as it begins (kit/store/units.py)."""
    log = run.job_logs(name) / f"{job_of(token)}_0_log.out"
    if not log.is_file():
        return False
    content = log.read_bytes()
    starts = [head for head in task_logs.FIRST_LINE.finditer(content) if head[2] == token.encode()]
    second = re.compile(rf" {re.escape(name)}: .* \((?!1 of )[\d,]+ of ".encode())
    return bool(starts) and second.search(content, starts[-1].end()) is not None
