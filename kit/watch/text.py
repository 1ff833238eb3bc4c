"""The state of a run as text: blocks of lines, which `watch --once` prints and the live view arranges.

    for line in lines(facts): ...
    blocks(facts, now)["goodput"]

A line begins with its label, or with as many spaces.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from kit.output.quantities import count, duration, loss, size
from kit.plan.buckets import BUCKETS, UNKNOWN
from kit.plan.rate import MFU
from kit.watch.goodput import HOUR
from kit.watch.pace import WEEK
from kit.watch.plot import plot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Facts = dict[str, Any]

LABEL = 12  # columns
_TRAIN = "train"
_TOGETHER = ("done", "not begun", "waiting", "stale")  # states that stages share on one line
_NAMED = 3  # stages on one line, each by its name
_LISTED = 5  # attempts
_SOON = 2 * 86_400.0  # seconds to an arrival that is given to the minute
_BASIS = {
    "measured": "",
    "rehearsed": "; from the step time of its rehearsal",
    "computed": f"; computed, at an assumed MFU of {MFU:.0%}",
}
_PLOT = (80, 12)  # columns and lines


def lines(shown: Facts) -> Iterator[str]:
    """All of it, with a plot of the loss."""
    now = shown["time"]
    yield f"{shown['run']}, {when(now)}"
    for name, block in blocks(shown, now).items():
        yield from block
        if name == "run":
            yield from loss_plot(shown, *_PLOT)


def blocks(
    shown: Facts, now: float, attempts: int = _LISTED, *, every_stage: bool = False
) -> dict[str, list[str]]:
    """The lines of each subject, in order: the last `attempts`, stages together or each on its line."""
    found = {
        "problems": [_labelled("problem", problem) for problem in shown["problems"]],
        "alerts": [*_alerts(shown["alerts"])],
        "chain": [*_chain(shown, now, every_stage=every_stage)],
        "run": [*_training(shown["training"], now)],
        "arrival": [*_arrival(shown, now)],
        "goodput": [*_goodput(shown["goodput"])],
        "attempts": [*_attempts(shown, attempts, now)],
        "ahead": [*_ahead(shown, now)],
    }
    if not shown["alerts"]:
        found["ahead"].append(_labelled("alerts", "none"))
    if shown["tensorboard"]:
        found["ahead"].append(_labelled("TensorBoard", shown["tensorboard"]))
    return found


def loss_plot(shown: Facts, width: int, height: int, *, recent: bool = False) -> list[str]:
    """The trend of the loss over the steps, with attempts and validations; none without steps."""
    of = shown["trend"]["recent" if recent else "whole"]
    return plot(
        of["steps"],
        of["losses"],
        width,
        height,
        attempts={one["number"]: one["from_step"] for one in shown["attempts"]},
        validations=of["validations"],
    )


def end_of(shown: Facts, one: Facts) -> str:
    """Why an attempt ended, or that it runs."""
    if one["end"]:
        return one["reason"] or "ended"
    last = one["number"] == shown["attempts"][-1]["number"]
    running = last and shown["chain"][_TRAIN]["state"] == "running"
    return "running" if running else "no end recorded"


def when(moment: float) -> str:
    """A Unix time in this machine's time zone, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _labelled(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}"


def _titled(label: str, texts: Sequence[str]) -> Iterator[str]:
    """Lines of which the first has the label."""
    for position, text in enumerate(texts):
        yield _labelled(label if position == 0 else "", text)


def _alerts(alerts: Sequence[Facts]) -> Iterator[str]:
    for alert in alerts:
        since = f" (since {when(alert['since'])})" if alert["since"] else ""
        yield _labelled(alert["severity"], f"{alert['text']}{since}")
        yield _labelled("", alert["command"])


def _chain(shown: Facts, now: float, *, every_stage: bool) -> Iterator[str]:
    stages, command = _stages(shown["chain"], now, every_stage=every_stage)
    if command and command not in [alert["command"] for alert in shown["alerts"]]:
        stages.append(f"{'next':<11} {command}")
    yield from _titled("chain", stages)
    if shown["queue"] and shown["queue"]["silent"]:
        yield _labelled("queue", _silence(shown["queue"], now))


def _stages(
    chain: Mapping[str, Facts], now: float, *, every_stage: bool
) -> tuple[list[str], str | None]:
    """A line for stages that follow one another in the same quiet state, and for each other stage.

    And the command that continues the chain, if it stands still.
    """

    def kind(name: str) -> tuple[str, ...]:
        state, reason = chain[name]["state"], chain[name]["reason"] or ""
        if every_stage or state not in (*_TOGETHER, "queued"):
            return (name,)
        return (state, reason) if state == "queued" else (state,)

    lines: list[str] = []
    command = None
    for key, group in itertools.groupby(chain, kind):
        names = [*group]
        stage = chain[names[0]]
        remarks = [*_remarks(names[0], stage, now)]
        if stage["state"] == "done" and not every_stage:
            remarks = []
        elif key[0] in _TOGETHER or len(names) > 1:  # those of the others follow from it
            remarks = [stage["reason"]] if stage["reason"] else []
        title = f"{names[0]} to {names[-1]}" if len(names) > _NAMED else ", ".join(names)
        told = f": {'; '.join(remarks)}" if remarks else ""
        lines.append(f"{stage['state']:<11} {title}{told}")
        if stage["state"] not in ("queued", "running"):
            command = command or stage["next"]
    return lines, command


def _remarks(name: str, stage: Facts, now: float) -> Iterator[str]:
    """How much of a stage is made, why it waits or ended, and when Slurm expects it to start."""
    made = [stage[key] or 0 for key in ("done", "missing", "stale", "broken")]
    if name != _TRAIN and sum(made) > 1:
        yield f"{made[0]:,} of {count(sum(made), 'unit')}"
    if name != _TRAIN and stage["tasks_running"]:
        yield f"{count(stage['tasks_running'], 'task')} running"
    if stage["job"] and stage["since"]:
        yield f"{stage['job']}, {duration(now - stage['since'])}"
    if stage["reason"]:
        yield stage["reason"]
    if stage["starts"] and stage["starts"] > now:  # Slurm leaves an estimate that has passed
        yield f"Slurm expects its start at {when(stage['starts'])}"


def _silence(queue: Facts, now: float) -> str:
    """How old Slurm's answer is, and why there is no newer one."""
    if queue["time"] is None:
        return f"no answer yet; {queue['silent']}"
    return f"as of {duration(now - queue['time'])} ago; {queue['silent']}"


def _training(training: Facts, now: float) -> Iterator[str]:
    if not training["step"]:
        yield _labelled("run", "no step yet")
        return
    step, steps = training["step"], training["steps"]
    parts = [f"step {step:,}" + (f" of {steps:,}, {step / steps:.1%}" if steps else "")]
    if training["tokens_per_second"]:
        parts.append(f"{training['tokens_per_second']:,.0f} tokens/s")
    if training["mfu"]:
        parts.append(f"MFU {training['mfu']:.1%}")
    yield _labelled("run", ", ".join(parts))
    last = f"loss {loss(training['loss'])}, {duration(now - training['last_step'])} ago"
    if training["validation_step"] is not None:
        held_out = loss(training["validation_loss"])
        last += f"; validation {held_out} at step {training['validation_step']:,}"
    yield _labelled("", last)


def _arrival(shown: Facts, now: float) -> Iterator[str]:
    arrives = shown["arrival"]
    if not arrives:
        return
    begins = "is resumed" if shown["attempts"] else "begins"
    condition = f", if it {begins} now" if arrives["if_submitted_now"] else ""
    condition += _BASIS[arrives["basis"]]
    yield _labelled("arrival", f"{_forecast(arrives, now, ahead=True)}{condition}")
    if shown["attempts"] and now - shown["attempts"][0]["start"] > WEEK:
        yield _labelled("", f"as in the last week: {_forecast(arrives['week'], now)}")


def _forecast(arrives: Facts, now: float, *, ahead: bool = False) -> str:
    """A date and its interval: to the minute if the latest is near, else to the day."""
    date, *edges = (when(arrives[key]) for key in ("date", "earliest", "latest"))
    if arrives["latest"] - now < _SOON:
        edges = [edge.partition("-")[2] for edge in edges]  # without the year
    else:
        date, *edges = (one.partition(" ")[0] for one in (date, *edges))
    left = f", in {duration(arrives['date'] - now)}" if ahead else ""
    return f"{date}{left} (90%: {' to '.join(edges)})"


def _goodput(spent: Facts) -> Iterator[str]:
    whole = duration(spent["seconds"])
    if spent["goodput"] is None:
        yield _labelled("goodput", f"no node was held yet; {whole} since the first submission")
    else:
        recent = ", ".join(
            f"last {name} {spent[name]['goodput']:.1%}"
            for name in ("hour", "day")
            if spent[name]["goodput"] is not None and spent["seconds"] > HOUR
        )
        yield _labelled(
            "goodput",
            f"{spent['goodput']:.1%} of held node time" + (f" ({recent})" if recent else ""),
        )
        yield _labelled("", f"{spent['of_wall_clock']:.1%} of {whole} since the first submission")
    for name in spent["losses"]:
        bucket = spent["buckets"][name]
        why = f" ({max(spent['unknown'], key=spent['unknown'].get)})" if spent["unknown"] else ""
        title = BUCKETS[name] + (why if name == UNKNOWN else "")
        yield _labelled("", f"{bucket['share']:6.1%}  {title}, {duration(bucket['seconds'])}")


def _attempts(shown: Facts, listed: int, now: float) -> Iterator[str]:
    """The last attempts, the newest first."""
    attempts = shown["attempts"]
    newest = [_attempt(shown, one, now) for one in reversed(attempts[-listed:])]
    if (hidden := len(attempts) - listed) > 0 and listed > 1:
        newest.append(f"and {count(hidden, 'earlier attempt')}")
    yield from _titled("attempts", newest)


def _attempt(shown: Facts, one: Facts, now: float) -> str:
    end = end_of(shown, one)
    if one["end"] or end == "running":
        end += f" {'after' if one['end'] else 'for'} {duration((one['end'] or now) - one['start'])}"
    lost = f", {count(one['lost'], 'step')} lost" if one["lost"] else ""
    return f"{one['number']}: from step {one['from_step']:,}, {count(one['steps'], 'step')}{lost}; {end}"


def _ahead(shown: Facts, now: float) -> Iterator[str]:
    """The last checkpoint, the next time limit, and the space that the run needs."""
    if checkpoint := shown["checkpoint"]:
        age = duration(now - checkpoint["time"])
        yield _labelled("checkpoint", f"step {checkpoint['step']:,}, {age} ago")
    if limit := shown["limit"]:
        yield _labelled("time limit", f"in {duration(limit - now)}, {when(limit)}")
    if disk := shown["disk"]:
        free, needed = size(disk["free"]), size(disk["needed"])
        yield _labelled("disk", f"{free} free, {needed} still needed")
