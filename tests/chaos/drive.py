"""A run from its start to its end, interrupted on the way, and the report of it."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.cluster import decisions
from kit.store.files import read_json
from kit.tracking import ledger
from tests.speed import patience

from .kinds import UNDECIDED, Kind, Scene
from .phases import PHASES, Watch
from .places import NAME, Place, SmallDisk
from .processes import Start, starts

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from kit.store.paths import Run

    from .course import Course

PATIENCE = patience(300)  # seconds without a new start, or without an end: the run does not go on
RANKS = 2
_POLL = 0.002
_TRIES = 6  # to be in a phase that is over in a moment; each comes in at an earlier one


class Stuck(Exception):  # noqa: N818  what became of the run
    """The run does not go on, or was over too early."""


@dataclass
class Drive:
    """The state of a chaos run."""

    course: Course
    place: Place
    kinds: Sequence[Kind]
    interruptions: int
    dice: random.Random
    disk: SmallDisk | None
    struck: list[tuple[str, str, str]] = field(default_factory=list)  # token, kind, phase
    submissions: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    expected: dict[int, str] = field(default_factory=dict)
    orphans: list[Start] = field(default_factory=list)
    _deck: list[Kind] = field(default_factory=list)
    _start_up: float = (
        6.0  # seconds from the start of the processes to the first step, as last seen
    )

    @property
    def run(self) -> Run:
        """The run that is interrupted."""
        return self.course.run(NAME)

    def go(self) -> None:
        """Interrupt the run, and let it end. Raises Stuck where it does not."""
        for number in range(1, self.interruptions + 1):
            start = self._fresh_start()
            if start is None:
                raise Stuck(f"the run was done after {number - 1} interruptions")
            self._interrupt(number, start)
        while (start := self._fresh_start()) is not None:
            if not start.wait(PATIENCE + self.course.steps):
                raise Stuck("the last attempt has no end")
            self.struck.append((start.token, "none", "none"))
        for orphan in self.orphans:
            if not orphan.wait(60):
                self._surprise("ranks of a killed supervisor are at work when the run is done")
                orphan.send(signal.SIGKILL)
        self._check()

    def end(self) -> None:
        """Leave no process behind."""
        self.place.close()
        for start in starts(self.run).values():
            start.send(signal.SIGKILL)

    def report(self) -> dict[str, Any]:
        """What happened, for the JSON line."""
        phases, kinds = Counter(s[2] for s in self.struck), Counter(s[1] for s in self.struck)
        return {
            "interruptions": sum(phases[phase] for phase in PHASES),
            "by_kind": {kind.name: kinds[kind.name] for kind in self.kinds if kinds[kind.name]},
            "by_phase": {phase: phases[phase] for phase in PHASES},
            "attempts": len(self.run.claimed_attempts()),
            "submissions": dict(self.submissions),
            "steps": self.course.steps,
            "steps_lost": sum(self._lost().values()),
            "surprises": self.surprises,
        }

    def _fresh_start(self) -> Start | None:
        """The ranks of a start that was not struck; submits where nothing starts. None: all is done."""
        known = {token for token, _, _ in self.struck}
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for token, start in starts(self.run).items():
                if token not in known and len(start.ranks) == RANKS:
                    return start
            if self.place.over():
                reason = self._why()
                if reason == "done":
                    return None
                self.submissions[reason] += 1
                if sum(self.submissions.values()) > 2 * self.interruptions + 5:
                    raise Stuck(f"submitted again and again: {dict(self.submissions)}")
                _say(f"submit, after: {reason}")
                self.place.submit()
            time.sleep(0.05)
        raise Stuck(f"no start in {PATIENCE} s")

    def _why(self) -> str:
        """Why the run is at rest, in a word or two."""
        if self._is_done():
            return "done"
        if not self.submissions:
            return "the beginning"
        token, kind, _ = self.struck[-1]
        if failure := decisions.mistake(self.run, "train"):
            self._surprise(f"ended as a mistake of the user's: {failure}")
        mine = [row["reason"] for row in decisions.read(self.run) if row["job"] == token]
        if not mine and kind not in UNDECIDED:
            self._surprise(f"start {token}, {kind}: nobody decided whether it is requeued")
        return str(mine[-1]).split(" (")[0] if mine else "no decision"

    def _is_done(self) -> bool:
        ends = [attempt.end for attempt in self.run.claimed_attempts() if attempt.end.is_file()]
        return bool(ends) and read_json(ends[-1])["outcome"] == "done"

    def _interrupt(self, number: int, start: Start) -> None:
        watch = Watch(self.run, start.token, self.course.steps)
        scene = Scene(
            self.run, self.place, start, watch, self.dice, self.disk, self.orphans, self.expected
        )
        seen = Counter(phase for _, _, phase in self.struck)
        goals = [p for p in PHASES if any(p in kind.phases for kind in self.kinds)]
        if watch.phase() != "start-up":  # it was missed in this start
            goals = [phase for phase in goals if phase != "start-up"]
        goal = min(goals, key=lambda phase: (seen[phase], self.dice.random()))
        began = time.monotonic()
        if goal != "start-up":
            self._reach(start, watch)
            self._start_up = time.monotonic() - began
            self._let_run(start, watch, self._slack(number, watch))
        while (kind := self._draw(goal, scene)) is None and start.alive():
            self._let_run(start, watch, 1)
        if kind is not None:
            kind.prepare(scene)
            phase = self._aim(goal, start, watch)
        if kind is None or not start.alive():
            self._unstruck(start, watch, f"{kind.name if kind else 'no kind'}, aimed at {goal}")
            return self._interrupt(number, self._fresh_start() or self._early(number))
        if goal == "start-up" and phase != goal:  # it was quicker than the last one
            self._start_up = time.monotonic() - began
            self._deck.insert(0, kind)
            return self._interrupt(number, start)
        kind.strike(scene)
        if kind.warns and phase == "start-up" and self._goes_on(start, watch):
            return self._interrupt(number, start)
        self.struck.append((start.token, kind.name, phase))
        step = watch.step if watch.step >= 0 else "none"
        _say(f"{number}/{self.interruptions}: {kind.name}; {phase} (aimed at {goal}), step {step}")
        if kind.stays:
            return None
        if not start.wait(PATIENCE):
            self._surprise(f"{kind.name}, {phase}: the ranks are there after {PATIENCE} s")
            start.send(signal.SIGKILL)
        self._examine(kind, phase, watch)
        return None

    def _early(self, number: int) -> Start:
        raise Stuck(f"the run was done after {number - 1} interruptions")

    def _draw(self, goal: str, scene: Scene) -> Kind | None:
        """The next kind of the deck that fits, None while there is none; each comes once in a deck."""
        possible = [k for k in self.kinds if goal in k.phases and k.possible(scene)]
        if possible and not any(kind in self._deck for kind in possible):
            fresh = list(self.kinds)
            self.dice.shuffle(fresh)
            self._deck += fresh
        kind = next((kind for kind in self._deck if kind in possible), None)
        if kind is not None:
            self._deck.remove(kind)
        return kind

    def _slack(self, number: int, watch: Watch) -> int:
        """Steps before the next strike; none where the run is ahead of its plan."""
        steps = self.dice.randrange(8)
        return 0 if watch.step > self.course.steps * number / (self.interruptions + 1) else steps

    def _reach(self, start: Start, watch: Watch) -> None:
        """Wait for the first step."""
        end = time.monotonic() + PATIENCE
        while watch.phase() == "start-up" and start.alive():
            if time.monotonic() > end:
                raise Stuck(f"no step in {PATIENCE} s")
            time.sleep(0.02)

    def _goes_on(self, start: Start, watch: Watch) -> bool:
        """Whether a start trains on after a signal in its start-up; one that leaves makes no third step."""
        self._reach(start, watch)
        self._let_run(start, watch, 3)
        return start.alive()

    def _let_run(self, start: Start, watch: Watch, steps: int) -> None:
        goal = watch.step + steps
        while watch.step < goal and start.alive():
            watch.look()
            time.sleep(_POLL)

    def _aim(self, goal: str, start: Start, watch: Watch) -> str:
        """Wait for the phase, and a little more; the phase that it then is."""
        if goal == "start-up":
            end = time.monotonic() + self.dice.uniform(0, 0.9 * self._start_up)
            while watch.phase() == goal and start.alive() and time.monotonic() < end:
                time.sleep(0.02)
            return watch.phase()
        delay = self.dice.uniform(0, 0.05 if goal == "save" else 0.2)
        for _ in range(_TRIES):
            end = time.monotonic() + 60
            while watch.phase() != goal and start.alive() and time.monotonic() < end:
                time.sleep(_POLL)
            time.sleep(delay)
            if (phase := watch.phase()) == goal:
                return phase
            delay /= 4
        return watch.phase()

    def _unstruck(self, start: Start, watch: Watch, what: str) -> None:
        """A start that ended before it was struck."""
        self.struck.append((start.token, "none", "none"))
        if self.disk is not None:
            self.disk.free()
        end = watch.attempt.end if watch.attempt else None
        outcome = read_json(end)["outcome"] if end and end.is_file() else "crash"
        if outcome != "done":
            self._surprise(f"start {start.token} ended by itself: {outcome} ({what})")

    def _examine(self, kind: Kind, phase: str, watch: Watch) -> None:
        """What the attempt left behind must fit what was done to it."""
        if phase == "start-up" or watch.attempt is None:
            return
        outcome = read_json(watch.attempt.end) if watch.attempt.end.is_file() else None
        where = f"attempt {watch.attempt.number}, {kind.name}, {phase}"
        if kind.graceful and outcome is None:
            self._surprise(f"{where}: no end.json")
        if kind.hangs and not watch.attempt.hang.is_file() and outcome is None:
            self._surprise(f"{where}: no hang.json")

    def _check(self) -> None:
        """Of the whole run: what graceful ends lost, and which checkpoints were chosen."""
        graceful = {kind.name for kind in self.kinds if kind.graceful}
        names = {token: kind for token, kind, phase in self.struck if phase != "start-up"}
        lost = self._lost()
        for attempt in ledger.attempts(self.run):
            kind = names.get(read_json(attempt.start)["job"])
            if kind in graceful and lost.get(attempt.number):
                self._surprise(
                    f"attempt {attempt.number}, {kind}: {lost[attempt.number]} steps lost"
                )
        began = ledger.attempts(self.run)
        for number, name in self.expected.items():
            after = [read_json(a.start)["checkpoint"] for a in began if a.number >= number][:1]
            if after != [name]:
                self._surprise(f"attempt {number} began from {after}, expected {name}")

    def _lost(self) -> dict[int, int]:
        """Steps in the ledger of each attempt beyond the checkpoint the next one set out from."""
        lost: dict[int, int] = {}
        began = ledger.attempts(self.run)
        for attempt, after in itertools.pairwise(began):
            steps = [row["step"] for row in ledger.rows(attempt) if row["kind"] == "step"]
            from_step = read_json(after.start)["from_step"]
            lost[attempt.number] = len({step for step in steps if step > from_step})
        return lost

    def _surprise(self, text: str) -> None:
        _say(f"SURPRISE: {text}")
        self.surprises.append(text)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
