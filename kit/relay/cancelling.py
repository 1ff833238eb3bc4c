"""Cancelling the jobs of a run, and a report on each of them.

facts = cancel(project, ["train"], ["train", "demo"], print)   # and the stages behind it
facts = cancel(project, None, ["pipeline", "demo"], print)     # everything
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler
from kit.cluster.snapshot import snapshot
from kit.output import program
from kit.relay.stages import STAGES, TRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.cluster.jobs import Ended
    from kit.config.run import Project
    from kit.store.paths import Run

    Say = Callable[[str], None]


def cancel(
    project: Project, names: Sequence[str] | None, command: Sequence[str], say: Say
) -> dict[str, Any]:
    """Cancel stages of a run and those behind them, and report on each job, as plain values.

    `names` are stages that follow one another; None: all, and the jobs on single checkpoints. `command` is
    the job of jobs/ and its arguments, to resume with. `say` gets lines while it waits.
    """
    run, chain = project.run, [stage.name for stage in STAGES]
    last = chain.index(names[-1]) if names else len(chain)
    ended = [(run, one) for one in _end(run, names or chain, chain[last + 1 :], say)]
    for beside in _beside(run) if names is None else ():
        ended += [(beside, one) for one in _end(beside, chain, (), say)]
    jobs = [_facts(run, of, one) for of, one in ended]
    job, *words = command
    if names and any(one["stage"] not in names for one in jobs):
        job = "pipeline"
    verb = snapshot(run, curve=False).submitted.verb_on(project.cluster)
    return {
        "run": str(run.root),
        "cancelled": jobs,
        "next": program.command(job, verb, *words) if jobs else None,
    }


def _end(run: Run, names: Sequence[str], behind: Sequence[str], say: Say) -> list[Ended]:
    """On every scheduler: a run may have been submitted to any of them."""
    every = scheduler.all_schedulers()
    return [one for queue in every for one in queue.end(run, names, behind, say)]


def _beside(run: Run) -> Iterator[Run]:
    """The run directories of jobs on single checkpoints that are not done."""
    from kit.release import checkpoint_jobs

    for at in run.made_at():
        yield from (job for _, job in checkpoint_jobs.unmade(at))


def _facts(run: Run, of: Run, ended: Ended) -> dict[str, Any]:
    facts: dict[str, Any] = {"stage": ended.name, "job": ended.job, "before": ended.before}
    if of != run and of.job_at:
        facts["step"] = of.job_at.step
    if of == run and ended.name == TRAIN.name and ended.before == "running":
        seen = snapshot(run, curve=False)
        end = seen.attempts[-1].end if seen.attempts else None
        facts |= {"saved": seen.saved, "reached": end.step if end else None}
    return facts


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The report, a line for each job."""
    if not facts["cancelled"]:
        yield f"{facts['run']}: nothing to cancel; no such job of it is queued or running"
        return
    for one in facts["cancelled"]:
        of = f" of step {one['step']:,}" if "step" in one else ""
        was = f"{one['job']} was {one['before']}"
        yield f"{one['stage'] or 'submission'}{of}: {was}; cancelled{_saved(one)}"
    yield f"{facts['run']}: nothing of it is queued or running now; to resume:"
    yield facts["next"]


def _saved(one: dict[str, Any]) -> str:
    """The last saved step of a training that was running."""
    if "saved" not in one:
        return ""
    saved, reached = one["saved"], one["reached"]
    if saved is None:
        return ", before its first checkpoint"
    if reached is not None and reached > saved:
        return f" at step {reached:,}, saved up to step {saved:,}"
    return f", saved up to step {saved:,}"
