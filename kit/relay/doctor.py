"""What a report of an issue needs to say, without secrets: `pipeline doctor`.

    show(facts(lambda: resolve.load(Path("demo"))))

Each line is a probe. One that fails says so in its line and keeps no other from being made. No variable of
the environment is shown; names and passwords are masked by kit/output/redaction.py.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import EkidenError
from kit.output.redaction import redact
from kit.relay import logs, machine, status
from kit.relay.snapshot import snapshot
from kit.run import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.config.run import Project
    from kit.relay.snapshot import Snapshot

Facts = dict[str, dict[str, Any]]

_LATEST = 5  # attempts and decisions that are shown
_LINES = 20  # of a log


def facts(load: Callable[[], Project] | None = None) -> Facts:
    """What each probe found, by section; texts, numbers, or lists of texts.

    `load` gives the project of a recipe; without it the sections are those of this machine.
    """
    project, mistake = None, None
    if load is not None:
        try:
            project = load()
        except EkidenError as error:
            mistake = str(error)
        except Exception as error:  # a doctor does not fall ill itself
            mistake = _told(error)
    found = {
        "versions": _made(machine.versions()),
        "machine": _made(machine.machine()),
        "Slurm": _made(machine.slurm(project.cluster if project else None)),
        "workspace": _made(
            machine.workspace(Path(project.recipe.workspace) if project else Path())
        ),
    }
    if project is not None:
        found["run"] = _run(project)
    elif mistake is not None:
        found["run"] = {"recipe": mistake}
    cleaned: Facts = redact(found)
    return cleaned


def show(found: Facts) -> None:
    """Print the facts, a line each, as they go into an issue."""
    wide = max(len(name) for section in found.values() for name in section)
    for title, section in found.items():
        print(f"{title}:")
        for name, value in section.items():
            first, *more = _lines(value)
            print(f"  {name:{wide}}  {first}".rstrip())
            for line in more:
                print(f"  {'':{wide}}  {line}".rstrip())


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [line for one in value for line in str(one).split("\n")] or ["none"]
    return ["none"] if value is None else str(value).split("\n")


def _made(probes: Iterator[tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
    """The answers of probes by name."""
    return {name: _answer(probe) for name, probe in probes}


def _answer(probe: Callable[[], Any]) -> Any:
    """What a probe found, or why it found nothing."""
    try:
        return probe()
    except EkidenError as error:
        return f"not known: {error}"
    except Exception as error:  # each probe fails alone
        return f"not known: {_told(error)}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _run(project: Project) -> dict[str, Any]:
    """Where a run stands, and how it failed."""
    run = project.run
    head = _made(iter([("directory", lambda: str(run.root)), ("stages", lambda: _stages(project))]))
    try:
        seen = snapshot(run, curve=False)
    except Exception as error:  # a damaged run directory is what this is for
        return {**head, "files": f"not known: {_told(error)}"}
    return head | _made(_of_run(project, seen))


def _of_run(project: Project, seen: Snapshot) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield (
        "precision",
        lambda: f"{project.recipe.training.precision} ({project.recipe.training.precision_reason})",
    )
    yield "packages", lambda: _packages(project)
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
    found = status.facts(project, [])
    lines = []
    for name, one in found.items():
        told = one["reason"] if one["state"] not in ("done", "not begun", "waiting") else None
        why = f": {told}" if told else ""
        faults = [f"  {fault['unit']} {fault['state']}: {fault['why']}" for fault in one["faults"]]
        lines += [f"{name}: {status.headline(one)}{why}", *faults]
    return lines


def _packages(project: Project) -> str:
    """Whether the packages are those that the run was submitted with."""
    path = project.run.environment
    if not path.is_file():
        return "not submitted yet"
    differing = {*path.read_text(encoding="utf-8").split()} ^ {*environment.installed_packages()}
    if not differing:
        return "those of the submission"
    return f"not those of the submission: {', '.join(sorted(differing)[:_LATEST])}"


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
    """The last lines of each job whose last start failed or made a mistake, newest log first."""
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
