"""Where stages stand, in words: what `status` prints of each, and the command to type next."""

from __future__ import annotations

import itertools
import shlex
import time
from typing import TYPE_CHECKING, Any

from kit.output.quantities import duration
from kit.relay import job_status
from kit.relay.snapshot import snapshot
from kit.relay.stages import STAGES, TRAIN, stages_of, standings, training
from kit.relay.submit import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kit.config.run import Project
    from kit.relay.snapshot import Snapshot
    from kit.relay.stage_status import StageStatus

Facts = dict[str, Any]


def facts(
    project: Project,
    words: Sequence[str],
    command: str | None = None,
    *,
    verify: bool = False,
    seen: Snapshot | None = None,
) -> dict[str, Facts]:
    """Where each stage stands, by its name, as plain values; with a command those that it does.

    `words` are the recipe and what else the command was given, for the command to type next; `seen` is
    what the files of the run say, where that was read already.
    """
    recipe = project.recipe
    asked = {stage.name for stage in stages_of(recipe, command)}
    seen = seen or snapshot(project.run, curve=TRAIN.name in asked)
    everything = standings(seen, recipe, command, verify=verify)
    first = next((one for one in everything if one.state != "done"), None)
    found: dict[str, Facts] = {}
    for standing in everything:
        if standing.name not in asked:
            continue
        more = training(seen, recipe) if standing.name == TRAIN.name else {}
        following = _watch(standing) if standing.state in job_status.ALIVE else None
        if first and standing.state not in (*job_status.ALIVE, "done", "unknown"):
            following = _again(first, command, words, verify=verify)
        found[standing.name] = {**standing.facts(), **more, "next": following}
    return found


def words_of(recipe_file: Path, overrides: Sequence[str] | None, cluster: str | None) -> list[str]:
    """What a command was given, as another one is given it."""
    return [
        str(recipe_file), *(overrides or ()), *(("--cluster", cluster) if cluster else ()),
    ]  # fmt: skip


def headline(found: Facts) -> str:
    """What is done of a stage, and how it stands, on one line."""
    done, state = progress(found), found["state"]
    return done if state == "done" else f"{done}; {state}" if done else state


def progress(found: Facts) -> str:
    """What is done of a stage."""
    if "step" not in found:
        keys = ("done", "missing", "stale", "broken")
        return describe({key: found[key] for key in keys if key in found})
    if not found["step"]:
        return ""
    text = f"step {found['step']:,}" + (f" of {found['steps']:,}" if found["steps"] else "")
    if found["loss"] is not None:
        text += f", loss {found['loss']:.3f}"
    if found["tokens_per_second"]:
        text += f", {found['tokens_per_second']:,.0f} tokens/s"
    if found["state"] != "done" and found["last_step"]:
        text += f", {_ago(found['last_step'])}"
    if found["state"] != "done" and found["saved"] is not None:
        text += f", saved up to step {found['saved']:,}"
    return text


def details(found: Facts, *, commands: bool = True) -> Iterator[str]:
    """The lines below the headline: why, since when, where, what to type; none for a stage that is done."""
    named = ("reason", "since", "unit", "job", "log")
    for key in named:
        if (value := found[key]) is not None:
            yield f"  {key:<6} {_when(value) if key == 'since' else value}"
    yield from (
        f"       | {line}" for line in found["tail"] if found["state"] not in job_status.ALIVE
    )
    for (state, why), same in itertools.groupby(
        found["faults"], lambda fault: (fault["state"], fault["why"])
    ):
        yield f"  {state:<6} {', '.join(fault['unit'] for fault in same)}: {why}"
    more = found.get("stale", 0) + found.get("broken", 0) - len(found["faults"])
    if more > 0:
        yield f"         and {more:,} more"
    if commands and found["next"]:
        yield f"  next   {found['next']}"


def _watch(standing: StageStatus) -> str | None:
    """The command that shows more of a job in the queue or at work."""
    if standing.state == "running":
        return shlex.join(["tail", "-f", str(standing.log)]) if standing.log else None
    job = (standing.job or "").removeprefix("job ")
    return f"squeue --start --jobs={job}" if job.replace("_", "").isdecimal() else None


def _again(
    first: StageStatus, command: str | None, words: Sequence[str], *, verify: bool
) -> str | None:
    """The command that goes on from the first stage that is not done."""
    if first.state in (*job_status.ALIVE, "unknown"):
        return None
    damaged = verify and first.state == "broken"  # the whole chain does not read every byte
    job = next(one.command for one in STAGES if one.name == first.name)
    job = "pipeline" if command is None and not damaged else job
    again = ["python", "-m", f"jobs.{job}", "submit", *words]
    return shlex.join([*again, "--verify"] if damaged else again)


def _when(moment: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(moment))}, {_ago(moment)}"


def _ago(moment: float) -> str:
    return f"{duration(time.time() - moment)} ago"
