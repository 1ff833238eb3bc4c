"""A guard: looks at a run, delivers the alerts that are due, and shows that it is alive and can see.

    guard = Guard(run, recipe.alerts, see, say=print)
    look = guard.look()          # once, as for cron
    guard.loop(every=60.0)       # until the run is done

`see` takes the last step that an earlier look saw, and gives a `Sight`. An exception makes the look
blind, as does a queue that does not answer: then nothing counts as resolved, and no heartbeat is sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kit.errors import EkidenError
from kit.output import program
from kit.output.quantities import duration
from kit.watch import deliver, guard_state
from kit.watch.detectors import Alert
from kit.watch.holding import Holding
from kit.watch.message import Message, clock
from kit.watch.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.alerts import Alerting
    from kit.store.paths import Run

BLIND = 900.0  # seconds without seeing the run until that is an alert too


@dataclass(frozen=True)
class Look:
    """The result of one look."""

    blind: str | None
    problems: Sequence[str]  # messages and heartbeats that did not arrive
    done: bool  # the run is done, and that has been reported

    @property
    def well(self) -> bool:
        """Whether the guard could do its work."""
        return self.blind is None and not self.problems


class Guard:
    """A guard of one run in this process; others may be running elsewhere."""

    def __init__(
        self,
        run: Run,
        alerting: Alerting,
        see: Callable[[int | None], Sight],
        say: Callable[[str], object],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._run, self._alerting, self._see, self._say, self._now = run, alerting, see, say, now
        self._holding = Holding()  # if it cannot be stored

    def loop(self, every: float) -> None:
        """Look every `every` seconds until the run is done."""
        known: tuple[str, ...] = ()
        while True:
            began = time.monotonic()
            look = self.look()
            problems = (*([f"blind: {look.blind}"] if look.blind else []), *look.problems)
            for problem in problems:
                if problem not in known:
                    self._say(f"{clock()} {problem}")
            known = problems
            if look.done:
                return
            time.sleep(max(1.0, every - (time.monotonic() - began)))

    def look(self) -> Look:
        """Look once: report what is due, unless another guard is doing so, and send a heartbeat."""
        seen = self._sight()
        self._alerting = seen.alerting
        problems: list[str] = []
        with guard_state.turn(self._run) as alive:
            if alive is not None:
                problems += self._report(seen, alive)
        if seen.blind is None and not problems:
            problems += self._beat()
        return Look(seen.blind, problems, bool(seen.end) and self._newest().done)

    def test(self) -> list[str]:
        """Send a test message and a heartbeat; returns why they did not arrive."""
        now = self._now()
        command = program.command("watch", self._run.root, "--once")
        alert = Alert("test", "info", "a test message: alerts of this run reach you", command)
        problem = self._deliver(Message("test", alert, now), now)
        if self._alerting.command is None:
            problem = "alerts.command is not set: messages are only printed"
        return [*([problem] if problem else []), *self._beat()]

    def _sight(self) -> Sight:
        try:
            if not self._run.root.is_dir():
                raise FileNotFoundError(f"{self._run.root}: no such folder")
            return self._see(self._newest().step)
        except (EkidenError, OSError, ValueError, LookupError) as error:
            return Sight(self._alerting, blind=f"{type(error).__name__}: {error}")

    def _newest(self) -> Holding:
        return max(guard_state.load(self._run), self._holding, key=lambda one: one.time)

    def _report(self, seen: Sight, alive: Callable[[], object]) -> list[str]:
        """Deliver the messages that are due; returns why some did not arrive."""
        now, before = self._now(), self._newest()
        found = [*seen.alerts, *self._blindness(seen, before, now)]
        holding, due = before.after(found, now, self._alerting.repeat, blind=bool(seen.blind))
        holding = replace(holding, step=max(seen.step or 0, before.step or 0))
        if seen.end and not holding.done:
            command = program.command("pipeline", "status", self._run.root)
            due.append(Message("done", Alert("done", "info", seen.end, command), now))
        elif not seen.end and not seen.blind:  # extended
            holding = replace(holding, done=False)
        problems = []
        for message in due:
            if message.alert.severity == "warning" and self._alerting.severity == "critical":
                continue
            alive()
            if problem := self._deliver(message, now):
                problems.append(problem)
                continue
            holding = holding.delivered(message, now)
            problems += self._save(holding)
        return [*problems, *self._save(holding)]

    def _blindness(self, seen: Sight, before: Holding, now: float) -> list[Alert]:
        """The alert that the guard has seen nothing for a while."""
        if seen.blind is None or not before.sighted or now - before.sighted < BLIND:
            return []
        text = f"the guard has not seen the run for {duration(now - before.sighted)}: {seen.blind}"
        command = program.command("watch", self._run.root, "--once")
        return [Alert("blind", "critical", text, command)]

    def _deliver(self, message: Message, now: float) -> str | None:
        facts = message.facts(self._run, now)
        self._say(f"{clock()} {facts['subject']}\n  {facts['command']}")
        command = self._alerting.command
        if command is None:
            return None
        return deliver.by_command(command, facts, self._alerting.timeout, self._run.root)

    def _save(self, holding: Holding) -> list[str]:
        self._holding = holding
        try:
            guard_state.save(self._run, holding)
        except OSError as error:
            return [f"state not saved, so a new guard will report again: {error}"]
        return []

    def _beat(self) -> list[str]:
        problems = []
        try:
            guard_state.beat(self._run)
        except OSError as error:
            problems.append(f"no heartbeat file: {error}")
        url = self._alerting.heartbeat_url
        if url and (problem := deliver.ping(url, self._alerting.timeout)):
            problems.append(problem)
        return problems
