"""What one look of a guard saw: alerts, and whether it could see everything."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from kit.output import program
from kit.output.quantities import loss
from kit.watch.detectors import Alert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.alerts import Alerting

_ALIVE = ("queued", "running", "unknown")


@dataclass(frozen=True)
class Sight:
    """What one look saw."""

    alerting: Alerting  # the recipe's section, which may be amended during the run
    alerts: Sequence[Alert] = ()
    step: int | None = None
    blind: str | None = None  # what could not be seen, and why
    end: str | None = None  # how the run stands, if nothing more will happen


def sight(alerting: Alerting, facts: Mapping[str, Any], unreadable: str | None = None) -> Sight:
    """A sight from the facts that kit/watch/view.py gives.

    `unreadable` is why the newest attempt could not be read; other damage is an alert.
    """
    names = [field.name for field in fields(Alert)]
    queue = facts.get("queue") or {}
    silent = queue.get("silent") or next(
        (
            f"{name}: {one['reason']}"
            for name, one in facts["chain"].items()
            if one["state"] == "unknown"
        ),
        None,
    )
    return Sight(
        alerting,
        [
            *(Alert(**{name: one[name] for name in names}) for one in facts["alerts"]),
            *(_damage(facts["run"], problem) for problem in facts["problems"]),
        ],
        facts["training"]["step"],
        unreadable or silent,
        _end(facts),
    )


def _damage(run: str, problem: str) -> Alert:
    file = problem.partition(": ")[0]
    command = program.command("watch", run, "--once")
    return Alert("damaged", "warning", problem, command, file, repeats=False)


def _end(facts: Mapping[str, Any]) -> str | None:
    """How the run stands once its training is done and no job is left; None before."""
    states = {name: one["state"] for name, one in facts["chain"].items()}
    if states["train"] != "done" or any(state in _ALIVE for state in states.values()):
        return None
    training = facts["training"]
    text = f"training is done: step {training['step']:,}, loss {loss(training['loss'])}"
    names = [*states]
    rest: dict[str, list[str]] = {}  # the stages after it by their state
    for name in names[names.index("train") + 1 :]:
        rest.setdefault(states[name], []).append(name)
    return "; ".join([text, *(f"{', '.join(some)}: {state}" for state, some in rest.items())])
