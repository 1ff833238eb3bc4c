"""Cancelling the jobs of a run on Slurm: the training saves first, and nothing is left in the queue.

scancel gives a job only KillWait to save, 30 s by default. So the ranks of the training get SIGINT first,
which nobody else sends: they save and leave, however long that takes, and the exit trap does not requeue.
After `_SAVING` seconds, and for all other jobs at once, plain scancel follows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.cluster import decisions, state
from kit.cluster.jobs import Ended, user_signal
from kit.cluster.patience import pauses
from kit.cluster.state import Element
from kit.errors import ClusterError
from kit.output import quantities
from kit.store.files import read_json
from kit.store.job_tokens import job_of, restarts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from kit.store.paths import Run

    Alive = dict[str, list[Element]]  # by stage

TRAIN = "train"
_SAVING = 600  # seconds for the training's save
_LEAVING = 600  # seconds until a cancelled job has left the queue: KillWait, an epilog


def end(
    run: Run,
    ids: Mapping[str, str],
    users: Collection[int],
    names: Sequence[str],
    behind: Sequence[str],
    say: Callable[[str], None],
) -> list[Ended]:
    """Cancel the jobs `names` of `ids`, and those `behind` them; see kit/cluster/scheduler.py.

    `ids` are in the order of the chain; `users` are the uids that the jobs belong to, empty if not known.
    """
    alive = _alive(ids, users)
    if not any(name in names for name in alive):
        return []
    alive = {name: elements for name, elements in alive.items() if name in (*names, *behind)}
    ended = [Ended(name, f"job {ids[name]}", describe(alive[name])) for name in alive]
    began = time.time()
    mine = {name: ids[name] for name in alive}
    running = any(element.state == "RUNNING" for element in alive.get(TRAIN, ()))
    saving = running and has_begun(run, mine[TRAIN])
    # Those behind first: none is left that waits for one that never succeeds.
    _scancel([job for name, job in reversed(mine.items()) if not (saving and name == TRAIN)])
    if saving:
        _save(run, mine[TRAIN], users, say)
    _empty(mine, users, say)
    for name, job in mine.items():
        _record(run, name, job, began)
    return ended


def _alive(ids: Mapping[str, str], users: Collection[int], *, patient: bool = False) -> Alive:
    """The elements of jobs that are queued or running, by stage.

    `patient`: all of them, as if unknown, while squeue does not answer; else raises ClusterError.
    """
    try:
        queue = state.queue([*ids.values()], users)
    except ClusterError:
        if not patient:
            raise
        return {name: [_unknown(job)] for name, job in ids.items()}
    found = {name: [e for e in queue.get(job, ()) if e.alive] for name, job in ids.items()}
    return {name: elements for name, elements in found.items() if elements}


def _unknown(job: str) -> Element:
    return Element(job, "RUNNING", "squeue does not answer", None, None, None)


def has_begun(run: Run, job: str) -> bool:
    """Whether ranks of the training job have begun an attempt, and so have something to save."""
    newest = run.claimed_attempts()[-1:]
    begun = [attempt for attempt in newest if attempt.start.is_file() and not attempt.end.is_file()]
    return any(job_of(read_json(attempt.start)["job"]) == job for attempt in begun)


def describe(elements: Sequence[Element]) -> str:
    """`running`, `queued`, or of an array `3 tasks running, others queued`."""
    running = sum(element.state != "PENDING" for element in elements)
    if len(elements) == 1:
        return "running" if running else "queued"
    waiting = ", others queued" if running < len(elements) else ""
    return f"{quantities.count(running, 'task')} running{waiting}" if running else "queued"


def _save(run: Run, job: str, users: Collection[int], say: Callable[[str], None]) -> None:
    """Have the training save and leave; returns when it has, or after `_SAVING` seconds."""
    say(
        f"train: job {job} saves its last full step and ends; this may take as long as a step and a save"
    )
    signal = f"--signal={user_signal(run).name.removeprefix('SIG')}"
    for _ in pauses(_SAVING):
        _scancel([signal, job])  # each time: its ranks may not have started yet
        alive = _alive({TRAIN: job}, users, patient=True)
        if not any(element.state == "RUNNING" for element in alive.get(TRAIN, ())):
            return
    say(f"train: job {job} has not ended in {_SAVING} s, and is killed")


def _empty(ids: Mapping[str, str], users: Collection[int], say: Callable[[str], None]) -> None:
    """Wait until the jobs have left the queue; cancels those that come back. Raises ClusterError."""
    alive: Alive = {}
    problem: ClusterError | None = None
    for number, _ in enumerate(pauses(_LEAVING)):
        alive = _alive(ids, users, patient=True)
        if not alive:
            return
        left = [name for name in alive if any(e.state != "COMPLETING" for e in alive[name])]
        problem = _scancel([ids[name] for name in left])
        if problem and "denied" in str(problem):
            raise problem
        if number == 0:
            say(
                f"waiting until {', '.join(alive)} {'have' if len(alive) > 1 else 'has'} left the queue"
            )
    states = ", ".join(f"{name} (job {ids[name]}, {alive[name][0].state})" for name in alive)
    why = f": {problem}" if problem else ""
    raise ClusterError(
        f"still in the queue after {_LEAVING} s: {states}{why}; cancel it again later"
    )


def _scancel(arguments: Sequence[str]) -> ClusterError | None:
    """Run scancel; returns its complaint, which may be that a job has just ended."""
    try:
        if arguments:
            state.slurm("scancel", *arguments)
    except ClusterError as error:
        return error
    return None


def _record(run: Run, name: str, job: str, since: float) -> None:
    """Record that a job was cancelled, unless its exit trap has recorded how it ended."""
    rows = [row for row in decisions.read(run) if row["name"] == name]
    last = next((row for row in reversed(rows) if row["time"] >= since), None)
    if last is not None and not last["requeued"]:
        return
    ends = [row["job"] for row in rows if job_of(row["job"]) == job]  # of earlier starts
    restarts = max((restarts_of(token) + 1 for token in ends), default=0)
    decision = decisions.Decision(False, decisions.CANCELLED)
    decisions.record(run, f"{job}.{restarts}", name, decision)
    if name == TRAIN:
        decisions.publish_end(run, decision)
