"""Run all parts of an acceptance, and write its report.

report = accept.here(project, steps=100)
accept.show(report)
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler
from kit.cluster.jobs import Job
from kit.cluster.processes import Starter
from kit.config.run import Project
from kit.errors import EkidenError, Interrupted
from kit.output import log
from kit.output.quantities import duration
from kit.plan import report as plan
from kit.plan.known import Known
from kit.relay.acceptance import (
    inspection,
    interruptions,
    measured,
    meeting,
    probe,
    states,
    trials,
    verdicts,
)
from kit.relay.acceptance.micro_batch import micro_batch
from kit.relay.acceptance.trials import Trials
from kit.relay.acceptance.two_nodes import two_nodes
from kit.relay.acceptance.verdicts import Verdict
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.cluster.supervisor import Start
    from kit.relay.acceptance.interruptions import Pair
    from kit.store.paths import Run


def here(project: Project, steps: int) -> dict[str, Any]:
    """Accept this machine for a project, in this process; returns the report.

    Raises RunError while an acceptance of the same name is queued or running.
    """
    # In a job of Slurm its variables would make every trial a part of that job.
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
    recipe = project.recipe
    job = Workspace(Path(recipe.workspace)).acceptance(recipe.name)
    scheduler.ensure_idle(job)
    alone = Project(project.run, recipe, trials.here(project.cluster))
    return run(alone, job.root, steps, Starter)


def show(report: dict[str, Any]) -> None:
    """Print the verdicts, and where the report is."""
    for verdict in report["verdicts"]:
        print(Verdict(**verdict).line)
    print(
        f"{'passed' if report['passed'] else 'failed'}, in {duration(report['seconds'])}: {report['page']}"
    )


def run(project: Project, folder: Path, steps: int, start: Start) -> dict[str, Any]:
    """All parts in order; a part that fails is bad, and the others go on. Returns the report."""
    began = time.monotonic()
    found: list[Verdict] = []
    parts = _Parts(Trials.of(project, steps, start), steps)
    for verdict in parts.verdicts():
        log.info(f"acceptance: {verdict.line}")
        found.append(verdict)
    report = verdicts.report(project, parts.machine, found, time.monotonic() - began)
    report["page"] = str(folder / verdicts.PAGE)
    verdicts.write(folder, report)
    return report


def guarded(part: str, verdicts_of: Callable[[], Iterator[Verdict]]) -> Iterator[Verdict]:
    """The verdicts of a part; bad with its error's line if it fails. Raises Interrupted after a signal."""
    try:
        yield from verdicts_of()
    except verdicts.NotTried as reason:
        yield Verdict(part, "not tried", str(reason))
    except Interrupted:
        raise Interrupted("stopped, without a report; start it again") from None
    except EkidenError as error:
        yield Verdict(part, "bad", str(error))


class _Parts:
    """The parts in order; some need the run of an earlier one."""

    def __init__(self, trials: Trials, steps: int) -> None:
        self._trials, self._steps = trials, steps
        self._planned = plan.facts(trials.recipe, trials.on_one_node, Known())
        self._run: Run | None = None  # of many steps
        self._pairs: dict[bool, Pair] = {}  # by `deterministic`
        self.machine: dict[str, Any] = {}

    def verdicts(self) -> Iterator[Verdict]:
        """The verdicts of all parts."""
        yield from guarded("preflight", self._preflight)
        yield from guarded("ranks meet", self._meeting)
        yield from guarded("micro-batch", self._micro_batch)
        yield from guarded("rate, memory, profile, data, ledger", self._of_steps)
        for deterministic in (True, False):
            name = interruptions.name_of(deterministic=deterministic)
            yield from guarded(name, partial(self._interrupted, deterministic=deterministic))
        yield from guarded("determinism", self._determinism)
        yield from guarded("agreement, memory by part, save, load", self._probed)
        yield from guarded("two nodes", self._two_nodes)

    def _preflight(self) -> Iterator[Verdict]:
        verdict, self.machine = inspection.inspect(self._trials)
        yield verdict

    def _meeting(self) -> Iterator[Verdict]:
        yield meeting.met(self._trials)

    def _micro_batch(self) -> Iterator[Verdict]:
        yield micro_batch(self._trials, self._planned)

    def _of_steps(self) -> Iterator[Verdict]:
        own = trials.settings(self._steps)
        self._run = self._trials.run("steps", own, profile_at=measured.PROFILED)
        yield from measured.of_steps(self._trials, self._run, self._planned)

    def _interrupted(self, *, deterministic: bool) -> Iterator[Verdict]:
        seconds = measured.seconds_a_step(self._of_many_steps())
        pair = interruptions.interrupt(self._trials, seconds, deterministic=deterministic)
        self._pairs[deterministic] = pair
        yield interruptions.resumed(self._trials, pair, deterministic=deterministic)

    def _determinism(self) -> Iterator[Verdict]:
        if len(self._pairs) < 2:
            raise verdicts.NotTried("without a run with it and one without")
        yield interruptions.cost(self._pairs[True], self._pairs[False])

    def _probed(self) -> Iterator[Verdict]:
        run = self._of_many_steps()
        self._trials.call(run, Job(probe.NAME, probe.work, resources="training"))
        found = probe.answer(run)
        self._trials.discard(run)
        yield measured.agreement(self._trials, run, found)
        yield states.memory_by_part(found, self._planned)
        yield states.save(run, found)
        pair = self._pairs.get(True)
        yield states.load(found, pair.interrupted if pair else None)

    def _two_nodes(self) -> Iterator[Verdict]:
        yield two_nodes(self._trials, self._run)

    def _of_many_steps(self) -> Run:
        """The run of many steps. Raises NotTried if it did not end."""
        if self._run is None:
            raise verdicts.NotTried("without the run of many steps")
        return self._run
