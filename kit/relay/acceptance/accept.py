"""Run all parts of an acceptance on this machine, and write its report.

report = accept.begin(project, steps=100)
accept.show(report)
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, EkidenError
from kit.output import log
from kit.output.quantities import duration
from kit.relay.acceptance import parts, verdicts
from kit.relay.acceptance.trials import Trials
from kit.relay.acceptance.verdicts import Verdict
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.run import Project
    from kit.store.paths import Run


def begin(project: Project, steps: int) -> dict[str, Any]:
    """Accept this machine for a project; returns the report. Raises ConfigError for another machine."""
    recipe, cluster = project.recipe, project.cluster
    if not cluster.is_this_machine:
        raise ConfigError(
            f"cluster {cluster.name}: acceptance is for the machine it runs on; start it by srun on a node "
            "of yours, with --cluster local-gpu"
        )
    # In a job of Slurm its variables would make every trial a part of that job.
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
    return run(project, Workspace(Path(recipe.workspace)).acceptance(recipe.name), steps)


def show(report: dict[str, Any]) -> None:
    """Print the verdicts, and where the report is."""
    for verdict in report["verdicts"]:
        print(Verdict(**verdict).line)
    print(
        f"{'passed' if report['passed'] else 'failed'}, in {duration(report['seconds'])}: {report['page']}"
    )


def run(project: Project, folder: Path, steps: int) -> dict[str, Any]:
    """All parts in order; a part that fails is bad, and the others go on. Returns the report."""
    began = time.monotonic()
    found: list[Verdict] = []
    for verdict in _verdicts(project, steps):
        log.info(f"acceptance: {verdict.line}")
        found.append(verdict)
    name = project.recipe.name
    report = verdicts.report(name, project.cluster.name, found, time.monotonic() - began)
    report["page"] = str(folder / verdicts.PAGE)
    verdicts.write(folder, report)
    return report


def _verdicts(project: Project, steps: int) -> Iterator[Verdict]:
    trials = Trials.of(project, steps)
    yield from _guarded("micro-batch", lambda: iter([parts.micro_batch(trials)]))
    measured: list[Run] = []

    def of_steps() -> Iterator[Verdict]:
        measured.append(trials.run("steps", parts.settings(steps), profile_at=parts.PROFILED))
        return parts.of_steps(trials, measured[0])

    yield from _guarded("steps", of_steps)
    for deterministic in (True, False):
        resume = partial(parts.signals, trials, measured, deterministic=deterministic)
        yield from _guarded("resume", resume)
    yield parts.nodes(project.cluster.training.nodes)


def _guarded(part: str, verdicts: Callable[[], Iterator[Verdict]]) -> Iterator[Verdict]:
    """The verdicts of a part; bad with its error's line if it fails."""
    try:
        yield from verdicts()
    except EkidenError as error:
        yield Verdict(part, "bad", str(error))
