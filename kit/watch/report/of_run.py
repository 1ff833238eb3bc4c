"""Parts of the page about the run itself: figures, alerts, goodput, attempts, arrival."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.output.charts import ticks
from kit.output.quantities import count, duration, loss
from kit.plan.buckets import BUCKETS, COLOURS
from kit.tracking import inexact
from kit.watch.goodput import DAY
from kit.watch.report import charts, ends
from kit.watch.report.markup import Markup, paragraph, private, swatch, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.watch.report.content import Content

_LISTED = 100  # attempts and alerts
_STATES = {  # of the training, in words
    "unknown": "The state of the training is unknown",
    "waiting": "The training waits",
    "failed": "The training failed",
    "cancelled": "The training was cancelled",
    "stopped": "The training was stopped",
    "interrupted": "The training was interrupted",
}
_BASIS = {
    "rehearsed": "from the step time of its rehearsal",
    "computed": "from a computed step time",
}


def summary(content: Content) -> str:
    """The state of the run in a sentence."""
    training, state = content.training, content.state
    if not training["step"]:
        return f"No step of the training was done yet; it is {state}."
    steps = f" of {training['steps']:,}" if training["steps"] else ""
    at = f"step {training['step']:,}{steps}"
    if state == "done":
        return f"The training is finished: {at}, on {when(training['last_step'])}."
    reason = content.facts["chain"]["train"]["reason"]
    because = f" ({reason})" if reason and state not in ("running", "stale") else ""
    words = _STATES.get(state, f"The training is {state}")
    return f"{words}{because}: {at}, last step {when(training['last_step'])}."


def figures(content: Content, scores: Mapping[str, Any] | None) -> Markup:
    """The headline figures."""
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in _figures(content, scores)
    )
    return Markup(f'<dl class="figures">{items}</dl>\n')


def _figures(content: Content, scores: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    training, spent = content.training, content.facts["goodput"]
    if training["step"]:
        steps = f" of {training['steps']:,}" if training["steps"] else ""
        yield "step", f"{training['step']:,}{steps}"
        yield "training loss", loss(training["loss"])
    if training["validation_step"] is not None:
        yield "validation loss", loss(training["validation_loss"])
    if scores:
        yield "bits per byte", f"{scores['bits_per_byte']:.3f}"
    if len(content.curve.tokens):
        yield "tokens seen", ticks.short(float(content.curve.tokens[-1]))
        rates = content.curve.tokens_per_second
        if np.isfinite(rates).any():
            yield "tokens/s, median", f"{np.nanmedian(rates):,.0f}"
    if training.get("mfu"):
        yield "MFU", f"{training['mfu']:.1%}"
    if spent["goodput"] is not None:
        yield "goodput", f"{spent['goodput']:.1%}"
    if spent["seconds"]:
        yield "since the first submission", duration(spent["seconds"])
    if arrives := content.facts["arrival"]:
        yield "arrival", when(arrives["date"])
    elif content.state == "done" and training["last_step"]:
        yield "end", when(training["last_step"])


def alerts(content: Content) -> Markup:
    """What is wrong with the run, and the commands that help."""
    found, problems = content.facts["alerts"], content.facts["problems"]
    parts = [paragraph(private(f"Problem: {problem}", 1000), "alert") for problem in problems]
    for one in found[:_LISTED]:
        words = f"<strong>{text(one['severity'])}</strong>: {private(one['text'], 1000)}"
        command = f"<br><code>{private(one['command'], 500)}</code>" if one["command"] else ""
        parts.append(Markup(f'<p class="alert">{words}{command}</p>\n'))
    if len(found) > _LISTED:
        parts.append(paragraph(f"And {count(len(found) - _LISTED, 'more alert')}."))
    return Markup("".join(parts)) or paragraph("None.")


def stages(content: Content) -> Markup:
    """The stages that are not done; one whose units are all made counts as done."""
    open_ones = [
        (name, stage["state"], private(stage["reason"] or ""))
        for name, stage in content.facts["chain"].items()
        if stage["state"] != "done" and not (stage["state"] == "running" and _made(stage))
    ]
    if not open_ones:
        return paragraph("All stages are done.")
    return table("Stages that are not done", ("stage", "state", "reason"), open_ones)


def _made(stage: Mapping[str, Any]) -> bool:
    return bool(stage["done"]) and stage["missing"] == 0


def goodput(content: Content) -> Markup:
    """The buckets of time as a table."""
    spent = content.facts["goodput"]
    if not spent["seconds"]:
        return paragraph("The run was not submitted yet.")
    with_day = spent["seconds"] > DAY
    head = ["bucket", "time", "share", *(["last day"] if with_day else [])]
    rows = []
    for name, title in BUCKETS.items():
        bucket = spent["buckets"][name]
        if not bucket["seconds"]:
            continue
        mark = swatch(COLOURS[name])
        row = [
            Markup(f"{mark}{text(title)}"),
            duration(bucket["seconds"]),
            f"{bucket['share']:.2%}",
        ]
        rows.append(row + ([f"{spent['day']['buckets'][name]['share']:.2%}"] if with_day else []))
    words = _goodput_words(spent)
    if spent["unknown"]:
        why = ", ".join(f"{reason} ({duration(s)})" for reason, s in spent["unknown"].items())
        words += f" Unknown: {why}."
    return Markup(paragraph(words) + table("Time since the first submission", head, rows))


def _goodput_words(spent: Mapping[str, Any]) -> str:
    if spent["goodput"] is None:
        return "No node was held yet."
    recent = spent["day"]["goodput"]
    day = f", {recent:.1%} in the last day" if recent is not None and spent["seconds"] > DAY else ""
    return (
        f"Goodput is {spent['goodput']:.1%} of held node time{day}: the time of steps that were kept, over "
        f"the time for which nodes were held. Of all time it is {spent['of_wall_clock']:.1%}."
    )


def attempts(content: Content) -> Markup:
    """The attempts as a table, the last ones of many."""
    every = content.attempts
    if not every:
        return paragraph("No attempt has started yet.")
    rows = [
        (
            one["number"],
            when(one["start"]),
            duration(one["end"] - one["start"]) if one["end"] else "no end yet",
            f"{one['from_step']:,}",
            f"{one['steps']:,}",
            f"{one['lost']:,}",
            private(one["reason"] or "", 160),
            content.ranks.get(one["number"], ""),
            *(() if content.public else (text(content.nodes.get(one["number"], ""), 60),)),
        )
        for one in every[-_LISTED:]
    ]
    head = (
        "attempt",
        "start",
        "held for",
        "from step",
        "steps",
        "lost",
        "end",
        "ranks",
        *(() if content.public else ("node of rank 0",)),
    )
    words = f"{count(len(every), 'attempt')}. {ends.note(content)}"
    if found := content.training["inexact"]:
        words += f" Bit-equality is {inexact.words(found)}."
    if len(every) > _LISTED:
        words += f" The last {_LISTED} are listed"
        words += "." if content.public else "; the others are in the folder attempts of the run."
    return Markup(paragraph(words) + table("Attempts", head, rows))


def arrival(content: Content) -> Markup:
    """The end of the run against one without an interruption."""
    plan, arrives = charts.without_interruption(content), content.facts["arrival"]
    rows = []
    if plan is not None:
        rows.append(("each step as the median, without interruption", when(plan[1]), "", ""))
    if arrives:
        rows += [_forecast("forecast", arrives), _forecast("as in the last week", arrives["week"])]
    elif content.state == "done" and content.training["last_step"]:
        end = content.training["last_step"]
        later = f"{duration(end - plan[1])} later" if plan and end > plan[1] else ""
        rows.append(("the last step", when(end), "", later))
    if not rows:
        return paragraph(
            "No forecast: the run has no steps yet, or its number of steps is not known."
        )
    begins = "is resumed" if content.facts["attempts"] else "begins"
    assumed = f"If it {begins} now. " if arrives and arrives["if_submitted_now"] else ""
    head = ("end", "date", "90% between", "remark")
    return Markup((paragraph(assumed) if assumed else "") + table("Arrival", head, rows))


def _forecast(name: str, arrives: Mapping[str, Any]) -> tuple[str, str, str, str]:
    interval = f"{when(arrives['earliest'])} and {when(arrives['latest'])}"
    return name, when(arrives["date"]), interval, _BASIS.get(str(arrives.get("basis")), "")


def when(moment: float | None) -> str:
    """A Unix time in the zone of this machine, to the minute."""
    if moment is None:
        return "an unknown time"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
