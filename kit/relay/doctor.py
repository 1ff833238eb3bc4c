"""The facts that an issue report needs, without secrets: `pipeline doctor`.

    show(facts(lambda: resolve.load(Path("demo"))))

Each line is a probe; one that fails says so in its line and does not stop the others. Environment variables
are never shown, and kit/output/redaction.py masks names and passwords.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster.snapshot import snapshot
from kit.errors import EkidenError
from kit.output.redaction import redact
from kit.relay import logs, machine, status
from kit.run import environment
from kit.store import records
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.config.run import Project

Facts = dict[str, dict[str, Any]]

_LATEST = 5  # attempts and decisions to show
_LINES = 20  # of a log


def facts(load: Callable[[], Project] | None = None) -> Facts:
    """The answers of all probes, by section: texts, numbers, or lists of texts.

    `load` loads the project of a recipe; without it, all sections are about this machine.
    """
    project, mistake = None, None
    if load is not None:
        try:
            project = load()
        except EkidenError as error:
            mistake = str(error)
        except Exception as error:  # the doctor itself must not fail
            mistake = _describe(error)
    sections = {
        "versions": _answers(machine.versions()),
        "machine": _answers(machine.machine()),
        "Slurm": _answers(machine.slurm(project.cluster if project else None)),
        "workspace": _answers(
            machine.workspace(Path(project.recipe.workspace) if project else Path())
        ),
    }
    if project is not None:
        sections["run"] = _run(project)
    elif mistake is not None:
        sections["run"] = {"recipe": mistake}
    redacted: Facts = redact(sections)
    return redacted


def show(facts: Facts) -> None:
    """Print the facts, a line each, ready to paste into an issue."""
    width = max(len(name) for section in facts.values() for name in section)
    for title, section in facts.items():
        print(f"{title}:")
        for name, value in section.items():
            first, *more = _lines(value)
            print(f"  {name:{width}}  {first}".rstrip())
            for line in more:
                print(f"  {'':{width}}  {line}".rstrip())


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [line for one in value for line in str(one).split("\n")] or ["none"]
    return ["none"] if value is None else str(value).split("\n")


def _answers(probes: Iterator[tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
    """The answers of probes by name."""
    return {name: _answer(probe) for name, probe in probes}


def _answer(probe: Callable[[], Any]) -> Any:
    """The answer of a probe, or the reason why there is none."""
    try:
        return probe()
    except EkidenError as error:
        return f"unknown: {error}"
    except Exception as error:  # each probe fails alone
        return f"unknown: {_describe(error)}"


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _run(project: Project) -> dict[str, Any]:
    """The status of a run, and its failures."""
    run = project.run
    head = _answers(
        iter([("directory", lambda: str(run.root)), ("stages", lambda: _stages(project))])
    )
    try:
        seen = snapshot(run, curve=False)
    except Exception as error:  # doctor has to work on damaged run directories
        return {**head, "files": f"unknown: {_describe(error)}"}
    return head | _answers(_of_run(project, seen))


def _of_run(project: Project, seen: Snapshot) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield (
        "precision",
        lambda: f"{project.recipe.training.precision} ({project.recipe.training.precision_reason})",
    )
    yield "packages", lambda: _packages(project)
    yield "preflight", lambda: _preflight(project)
    yield "MLflow", lambda: project.recipe.tracking.mlflow
    yield (
        "checkpoints",
        lambda: [f"step {s} of attempt {a}" for s, a in seen.checkpoints[-_LATEST:]],
    )
    yield "attempts", lambda: _attempts(seen)
    yield (
        "decisions",
        lambda: [
            f"{_clock(row['time'])} {row['name']} ({row['job']}): {row['reason']}"
            f"{', requeued' if row['requeued'] else ''}"
            for row in seen.decisions[-_LATEST:]
        ],
    )
    yield "mistakes", lambda: [f"{job}: {one.message}" for job, one in seen.mistakes.items()]
    yield "logs", lambda: [*_logs(seen)]


def _stages(project: Project) -> list[str]:
    lines = []
    for name, stage in status.facts(project, []).items():
        quiet = stage["state"] in ("done", "not begun", "waiting")
        reason = f": {stage['reason']}" if stage["reason"] and not quiet else ""
        faults = [
            f"  {fault['unit']} {fault['state']}: {fault['why']}" for fault in stage["faults"]
        ]
        lines += [f"{name}: {status.headline(stage)}{reason}", *faults]
    return lines


def _packages(project: Project) -> str:
    """Whether the installed packages are those at submission."""
    path = project.run.environment
    if not path.is_file():
        return "not submitted yet"
    differing = {*path.read_text(encoding="utf-8").split()} ^ {*environment.installed_packages()}
    if not differing:
        return "as at submission"
    return f"not as at submission: {', '.join(sorted(differing)[:_LATEST])}"


def _preflight(project: Project) -> list[str]:
    """The checks of the last start of the training, with those that were not ok."""
    run = project.run
    records_ = [read_json(path) for path in run.preflights("train", "*")]
    for attempt in run.claimed_attempts()[-1:]:
        records_ += records.preflights(attempt)
    last = max(records_, key=lambda one: one["time"], default=None)
    if last is None:
        return []
    return [
        f"job {one['job']} on {one['node']}: {one['verdict']}, {len(one['checks'])} checks"
        + "".join(
            f"\n  {check['result']} {check['name']}: {check['found']}"
            for check in one["checks"]
            if check["result"] != "ok"
        )
        for one in records_
        if one["job"] == last["job"]
    ]


def _attempts(seen: Snapshot) -> Sequence[str]:
    lines = []
    for one in seen.attempts[-_LATEST:]:
        end = (
            f"{one.end.outcome} at step {one.end.step}"
            if one.end
            else "no end.json: running, or it crashed"
        )
        reason = f" ({one.end.reason})" if one.end and one.end.reason else ""
        hang = f"; rank {one.hang.rank} hung in {one.hang.what}" if one.hang else ""
        began = f"from step {one.start['from_step']}" if one.start else "before its start"
        lines.append(f"{one.number}: {began}, {end}{reason}{hang}")
    return lines


def _logs(seen: Snapshot) -> Iterator[str]:
    """The last lines of the newest log of each job whose last start failed."""

    ended = {row["name"]: row for row in seen.decisions}
    failed = {
        name for name, row in ended.items() if not row["requeued"] and row["reason"] != "done"
    }
    for name in sorted({*seen.mistakes, *failed}):
        log = logs.newest(seen.run.job_logs(name))
        if log is not None:
            yield f"{log}:"
            yield from (f"| {line}" for line in logs.last_lines(log, _LINES))


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
