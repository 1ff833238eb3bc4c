"""Timing of checkpoints: on schedule, by the clock, on request, after a failure, and at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.output.quantities import count
from kit.plan.interval import checkpoint_interval
from kit.store import records
from kit.training.ending import Ending, fail
from kit.training.saver import Saver

if TYPE_CHECKING:
    from kit.config.recipe import Training
    from kit.training.checkpoint import LoopRecord
    from kit.training.context import Context
    from kit.training.interruption import StopMonitor
    from kit.training.recorder import Recorder
    from kit.training.resume import Origin
    from kit.training.saver import Saved

_POLL = 0.05  # seconds between polls of a save


class Checkpointer:
    """Decides when the saver saves. All ranks call every method at the same points."""

    def __init__(
        self,
        context: Context,
        origin: Origin,
        data: str,
        recorder: Recorder,
        stop_monitor: StopMonitor,
    ) -> None:
        """`data`: the fingerprint of the tokens, recorded in each checkpoint."""
        self._training, self._collectives = context.recipe.training, context.collectives
        self._watchdog = context.watchdog
        self._clock = context.watchdog.clock.now
        self._grace = context.cluster.training.grace_seconds
        self._topology = records.start(context.attempt)["topology"]
        self._numerics = origin.exactness.numerics
        self._interruptions = context.attempt.number - 1
        self._engine, self._progress, self._data = origin.engine, origin.progress, data
        self._recorder, self._stop_monitor = recorder, stop_monitor
        self._saver = Saver(
            *(context.run, context.attempt, self._training, self._collectives, recorder.sync),
            self._clock,
            lambda: context.collectives.interruption.received > 0,
        )
        self.saved = origin.saved  # the step of the last committed checkpoint
        self._began = self._clock() - self._progress.trained
        self._last_save = self._clock()
        self._pending = False  # a save is due once none is in flight
        self._failures = 0  # in a row
        self._retry_at: float | None = None

    def save_if_due(self) -> None:
        """Commit the save in flight once it is written, and begin one if due.

        Raises Leave after too many failures.
        """
        requested, rested = self._poll_save(self._is_save_requested())
        step, training = self._progress.step, self._training
        on_schedule = any(_is_multiple(step, every) for every in _intervals(training))
        exact = training.health.on_bad_step == "rollback" or _is_multiple(step, training.keep_every)
        if on_schedule and (exact or rested) and self._saver.step != step:
            # A rollback goes to a step on schedule, and those of keep_every stay: a slow disk must not
            # decide which of them exist; nor may a rest, whatever the rule.
            self.wait()
        self._pending |= requested or on_schedule
        if self._pending or self._is_halfway():
            self._saver.hurry()
        if self._pending and self._saver.step is None:
            self._pending = False
            if step != self.saved:
                self._begin_save()
        if self._failures >= training.save_tries:
            raise fail(f"{count(self._failures, 'save')} failed in a row")

    def wait(self) -> None:
        """Block until no save is in flight."""
        self._watchdog.begin("save", self._progress.slowest_save)
        self._saver.hurry()
        while self._saver.step is not None:
            self._poll_save(False)
            time.sleep(_POLL)

    def save_before_leaving(self, ending: Ending) -> Ending:
        """Save unsaved steps if time allows; returns the ending, `failed` if the last step is not saved."""
        self.wait()
        tries = self._training.save_tries
        while self._progress.step != self.saved and self._failures < tries:
            if self._failures and ending.outcome == "done":
                pause = self._training.save_pause
                self._watchdog.begin("save", pause)
                time.sleep(pause)
            elif not self._collectives.broadcast(self._time_for_save()):
                break
            self._begin_save()
            self.wait()
            if self._failures and ending.outcome != "done":
                break
        if ending.outcome == "done" and self._progress.step != self.saved:
            return Ending("failed", f"{count(tries, 'save')} failed, also of the last step")
        return ending

    @property
    def saving(self) -> bool:
        """Whether a save is in flight."""
        return self._saver.step is not None

    def close(self) -> None:
        """Wait until old checkpoints are removed."""
        self._saver.close()

    def _is_save_requested(self) -> bool:
        """Rank 0: whether a user, the clock or a failed save asks for a checkpoint."""
        if self._collectives.rank > 0:
            return False
        if self._stop_monitor.take_save_request():
            return True
        now = self._clock()
        if self._retry_at is not None:
            return now >= self._retry_at
        if self._training.checkpoint_every is not None:
            return False
        progress = self._progress
        return now - self._last_save >= checkpoint_interval(
            progress.blocked, progress.slowest_save, now - self._began, self._interruptions
        )

    def _is_halfway(self) -> bool:
        """Whether half of the steps to the next save on schedule have passed since the one in flight."""
        begun, step = self._saver.step, self._progress.step
        due = None if begun is None else _next_due(self._training, begun)
        return begun is not None and due is not None and 2 * (step - begun) >= due - begun

    def _poll_save(self, requested: bool) -> tuple[bool, bool]:
        """Finish the save in flight once no rank is writing.

        Returns whether any rank requests a save, and whether one in flight has rested on any.
        """
        writing, error, any_requested, rested = self._collectives.max(
            [self._saver.writing, self._saver.error, requested, self._saver.rested]
        )
        if self._saver.step is not None and not writing:
            self._record_save(self._saver.finish(error))
        return bool(any_requested), bool(rested)

    def _begin_save(self) -> None:
        began = self._clock()
        self._last_save, self._retry_at = began, None
        self._progress.trained = began - self._began
        record: LoopRecord = {
            **self._progress.record(),
            "data": self._data,
            "topology": self._topology,
            "numerics": self._numerics,
        }
        failed = self._saver.begin(self._engine, self._progress.step, record)
        self._progress.blocked = self._clock() - began
        if failed is not None:
            self._record_save(failed)

    def _record_save(self, saved: Saved) -> None:
        """Record a finished save, committed or failed."""
        if saved.error:
            self._failures += 1
            self._retry_at = self._clock() + self._training.save_pause
            self._recorder.save_failed(saved)
            return
        self.saved, self._failures, self._retry_at = saved.step, 0, None
        at_full_speed = max(saved.seconds - saved.rested, 0.0)
        self._progress.slowest_save = max(self._progress.slowest_save, at_full_speed)
        self._recorder.checkpoint(saved, self._progress.blocked)

    def _time_for_save(self) -> bool:
        """Whether this rank has time for a save as long as the slowest so far."""
        return self._stop_monitor.seconds_left(self._grace) > self._progress.slowest_save


def _next_due(training: Training, step: int) -> int | None:
    """The first step after `step` at which the recipe's schedule saves; None if the clock alone decides."""
    return min((step // n * n + n for n in _intervals(training) if n), default=None)


def _is_multiple(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _intervals(training: Training) -> tuple[int | None, int | None]:
    # Checkpoints of keep_every are due as well: the clock alone would miss their steps.
    return training.checkpoint_every, training.keep_every
