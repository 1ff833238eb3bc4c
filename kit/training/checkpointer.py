"""When a checkpoint is saved: on schedule, by the clock, on request, after a failure, and at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.output.quantities import count
from kit.plan.interval import checkpoint_interval
from kit.training.ending import Ending, fail
from kit.training.saver import Saver

if TYPE_CHECKING:
    from kit.training.context import Context
    from kit.training.interruption import StopMonitor
    from kit.training.recorder import Recorder
    from kit.training.resume import Origin
    from kit.training.saver import Saved

_POLL = 0.05  # seconds between two looks at a save that is waited for


class Checkpointer:
    """Has the saver save, one checkpoint at a time. All ranks call every method at the same places."""

    def __init__(
        self,
        context: Context,
        origin: Origin,
        data: str,
        recorder: Recorder,
        stop_monitor: StopMonitor,
    ) -> None:
        """`data`: the fingerprint of the tokens, which a checkpoint names."""
        self._training, self._collectives = context.recipe.training, context.collectives
        self._device, self._watchdog = context.device, context.watchdog
        self._grace = context.cluster.training.grace_seconds
        self._interruptions = context.attempt.number - 1
        self._engine, self._progress, self._data = origin.engine, origin.progress, data
        self._recorder, self._stop_monitor = recorder, stop_monitor
        self._saver = Saver(
            context.run, context.attempt, self._training, self._collectives, recorder.sync
        )
        self.saved = origin.saved  # the step of the last committed checkpoint
        self.peak_memory = 0  # bytes: the greatest of a rank
        self._began = time.monotonic() - self._progress.trained
        self._last_save = time.monotonic()
        self._wanted = False
        self._failures = 0  # in a row
        self._retry_at: float | None = None

    def save_if_due(self) -> None:
        """Commit the save in flight when it is written, and begin one where it is due.

        Raises Leave after too many failures.
        """
        wish = self._look_after_save(self._wishes_to_save())
        step, training = self._progress.step, self._training
        # Also where one is to stay for good: by the clock none would fall upon that step.
        due = (training.checkpoint_every, training.keep_every)
        on_schedule = any(every and step % every == 0 for every in due)
        if on_schedule and training.health.on_bad_step == "rollback" and self._saver.step != step:
            # A run goes back to a step on schedule: which ones there are is not for the disk to decide.
            self.wait()
        self._wanted |= wish or on_schedule
        if self._wanted and self._saver.step is None:
            self._wanted = False
            if step != self.saved:
                self._begin_save()
        if self._failures >= training.save_tries:
            raise fail(f"{count(self._failures, 'save')} failed in a row")

    def wait(self) -> None:
        """Return when no save is in flight."""
        self._watchdog.begin("save", self._progress.slowest_save)
        while self._saver.step is not None:
            self._look_after_save(False)
            time.sleep(_POLL)

    def save_before_leaving(self, ending: Ending) -> Ending:
        """Save what is not, as far as there is time; returns the ending, failed without its last step."""
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
            return Ending("failed", f"{count(tries, 'save')} failed, the last step's too")
        return ending

    def close(self) -> None:
        """Wait for what is being removed."""
        self._saver.close()

    def _wishes_to_save(self) -> bool:
        """Rank 0: whether a user asks for a checkpoint, or the clock does."""
        if self._collectives.rank > 0:
            return False
        if self._stop_monitor.take_save_request():
            return True
        now = time.monotonic()
        if self._retry_at is not None:
            return now >= self._retry_at
        if self._training.checkpoint_every is not None:
            return False
        progress = self._progress
        return now - self._last_save >= checkpoint_interval(
            progress.blocked, progress.slowest_save, now - self._began, self._interruptions
        )

    def _look_after_save(self, wish: bool) -> bool:
        """Whether any rank wishes a save; one in flight is finished when no rank writes any longer."""
        writing, error, agreed, self.peak_memory = self._collectives.max(
            [self._saver.writing, self._saver.error, wish, self._device.peak_memory()]
        )
        if self._saver.step is not None and not writing:
            self._record_save(self._saver.finish(error))
        return bool(agreed)

    def _begin_save(self) -> None:
        began = time.monotonic()
        self._last_save, self._retry_at = began, None
        self._progress.trained = began - self._began
        facts = {**self._progress.facts(), "data": self._data}
        failed = self._saver.begin(self._engine, self._progress.step, facts)
        self._progress.blocked = time.monotonic() - began
        if failed is not None:
            self._record_save(failed)

    def _record_save(self, saved: Saved) -> None:
        """A save has ended, well or not."""
        if saved.error:
            self._failures += 1
            self._retry_at = time.monotonic() + self._training.save_pause
            self._recorder.save_failed(saved)
            return
        self.saved, self._failures, self._retry_at = saved.step, 0, None
        self._progress.slowest_save = max(self._progress.slowest_save, saved.seconds)
        self._recorder.checkpoint(saved, self._progress.blocked)

    def _time_for_save(self) -> bool:
        """Whether a save as long as the slowest so far ends in time, as far as this rank knows."""
        return self._stop_monitor.seconds_left(self._grace) > self._progress.slowest_save
