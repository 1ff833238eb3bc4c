"""The status of stages as text: the lines that `status` prints, and the command to type next."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from kit.cluster.snapshot import snapshot
from kit.output import program
from kit.output.quantities import duration
from kit.relay import job_status
from kit.relay.stages import STAGES, TRAIN, stage_statuses, stages_of, training
from kit.relay.submit import describe
from kit.tracking import inexact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kit.cluster.jobs import Verb
    from kit.cluster.snapshot import Snapshot
    from kit.config.run import Project
    from kit.relay.queue_answer import QueueAnswer
    from kit.relay.stage_status import StageStatus

Facts = dict[str, Any]


def facts(
    project: Project,
    words: Sequence[str],
    command: str | None = None,
    *,
    verify: bool = False,
    seen: Snapshot | None = None,
    queue: QueueAnswer | None = None,
) -> dict[str, Facts]:
    """The status of each stage by name, as plain values; with `command`, of the stages that it runs.

    `words` are the arguments of this command, to build the command to type next. `seen` is a snapshot
    of the run and `queue` Slurm's answer, if the caller has them.
    """
    recipe = project.recipe
    selected = {stage.name for stage in stages_of(recipe, command)}
    seen = seen or snapshot(project.run, curve=TRAIN.name in selected)
    statuses = stage_statuses(seen, recipe, command, verify=verify, queue=queue)
    first = next((stage for stage in needed(statuses) if stage.state != "done"), None)
    by_name: dict[str, Facts] = {}
    for stage in statuses:
        if stage.name not in selected:
            continue
        more = training(seen, recipe) if stage.name == TRAIN.name else {}
        next_command = None
        if stage.state in job_status.ALIVE:
            next_command = _watch_command(stage, command, words)
        if first and stage.state not in (*job_status.ALIVE, "done", "unknown"):
            verb = seen.submitted.verb_on(project.cluster)
            next_command = _resuming_command(first, command, verb, words, verify=verify)
        by_name[stage.name] = {**stage.facts(), **more, "next": next_command}
    return by_name


def needed(statuses: Sequence[StageStatus]) -> Sequence[StageStatus]:
    """Of the stages of a run those that still matter: once training is done, nothing before it does."""
    trained = (place for place, one in enumerate(statuses) if one.name == TRAIN.name)
    place = next(trained, None)
    return statuses[place:] if place is not None and statuses[place].state == "done" else statuses


def words_of(recipe_file: Path, overrides: Sequence[str] | None, cluster: str | None) -> list[str]:
    """The arguments of a command as words, to pass on to another one."""
    return [
        str(recipe_file), *(overrides or ()), *(("--cluster", cluster) if cluster else ()),
    ]  # fmt: skip


def headline(stage: Facts) -> str:
    """Progress and state of a stage, on one line."""
    made, state = progress(stage), stage["state"]
    says_so = state == "done" and "step" not in stage  # units: `6 done`
    return made if says_so else f"{made}; {state}" if made else state


def progress(stage: Facts) -> str:
    """The progress of a stage: counts of its units, or for training step, loss and rate."""
    if "step" not in stage:
        keys = ("done", "missing", "stale", "broken")
        return describe({key: stage[key] for key in keys if key in stage})
    if not stage["step"]:
        return ""
    text = f"step {stage['step']:,}" + (f" of {stage['steps']:,}" if stage["steps"] else "")
    if stage["loss"] is not None:
        text += f", loss {stage['loss']:.3f}"
    if stage["tokens_per_second"]:
        text += f", {stage['tokens_per_second']:,.0f} tokens/s"
    if stage["state"] != "done" and stage["last_step"]:
        text += f", {_ago(stage['last_step'])}"
    if stage["state"] != "done" and stage["saved"] is not None:
        text += f", saved up to step {stage['saved']:,}"
    return text


def details(stage: Facts, *, commands: bool = True) -> Iterator[str]:
    """The lines below the headline: reason, time, unit, job, log, faults, bit-equality, next command."""
    for key in ("reason", "since", "unit", "job", "log"):
        if (value := stage[key]) is not None:
            yield f"  {key:<6} {_when(value) if key == 'since' else value}"
    if (starts := stage["starts"]) is not None and starts > time.time():
        yield f"  starts {_clock(starts)}, in {duration(starts - time.time())}, as Slurm expects"
    yield from (
        f"       | {line}" for line in stage["tail"] if stage["state"] not in job_status.ALIVE
    )
    for (state, why), same in itertools.groupby(
        stage["faults"], lambda fault: (fault["state"], fault["why"])
    ):
        yield f"  {state:<6} {', '.join(fault['unit'] for fault in same)}: {why}"
    more = stage.get("stale", 0) + stage.get("broken", 0) - len(stage["faults"])
    if more > 0:
        yield f"         and {more:,} more"
    if found := stage.get("inexact"):
        yield f"  bits   bit-equality is {inexact.words(found)}"
    if commands and stage["next"]:
        yield f"  next   {stage['next']}"


def _watch_command(stage: StageStatus, command: str | None, words: Sequence[str]) -> str | None:
    """The command that follows a job that is queued or running."""
    if stage.state == "running":
        follow = ("logs", "--follow", "--lines", "20", *words)
        return program.command(command or "pipeline", *follow) if stage.log else None
    if stage.remedy:
        return stage.remedy
    job = (stage.job or "").removeprefix("job ")
    return f"squeue --start --jobs={job}" if job.replace("_", "").isdecimal() else None


def _resuming_command(
    first: StageStatus, command: str | None, verb: Verb, words: Sequence[str], *, verify: bool
) -> str | None:
    """The command that continues from the first unfinished stage."""
    if first.state in (*job_status.ALIVE, "unknown"):
        return None
    damaged = verify and first.state == "broken"  # the whole chain does not read every byte
    job = next(stage.command for stage in STAGES if stage.name == first.name)
    job = "pipeline" if command is None and not damaged else job
    return program.command(job, verb, *words, *(["--verify"] if damaged else []))


def _when(moment: float) -> str:
    return f"{_clock(moment)}, {_ago(moment)}"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _ago(moment: float) -> str:
    return f"{duration(time.time() - moment)} ago"
