"""Handling of bad steps: skip the update, roll training back, or stop the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.output.quantities import count
from kit.training import checkpoint, loading
from kit.training.ending import fail

if TYPE_CHECKING:
    from kit.training.checkpoint import Checkpoint
    from kit.training.checkpointer import Checkpointer
    from kit.training.context import Context
    from kit.training.recorder import Recorder
    from kit.training.resume import Origin


class BadSteps:
    """Applies the recipe's rule up to its limit. All ranks call it at the same points."""

    def __init__(
        self, context: Context, origin: Origin, recorder: Recorder, checkpointer: Checkpointer
    ) -> None:
        self._run, self._attempt = context.run, context.attempt
        self._training, self._collectives = context.recipe.training, context.collectives
        self._engine, self._progress = origin.engine, origin.progress
        self._recorder, self._checkpointer = recorder, checkpointer
        self._watchdog = context.watchdog
        self._rollbacks: dict[int, int] = {}  # their number, by the step rolled back to

    def handle(self, problem: str) -> bool:
        """Handle a bad step; True if it was skipped and counts, False if training has rolled back.

        Raises Leave if the run stops.
        """
        rules, progress = self._training.health, self._progress
        progress.bad_steps += 1
        too_many = progress.bad_steps > rules.limit
        if rules.on_bad_step == "rollback" and not too_many:
            self._roll_back(problem)
            return False
        skip = rules.on_bad_step == "skip" and not too_many
        self._recorder.bad_step(progress.step + 1, problem, "skip" if skip else "stop")
        if skip:
            return True
        message = f"bad step {progress.step + 1}: {problem}"
        if too_many:
            bad_steps = count(progress.bad_steps, "bad step")
            message = f"{message}; {bad_steps} in a row, training.health.limit={rules.limit}"
        raise fail(message)

    def _roll_back(self, problem: str) -> None:
        """Load the last checkpoint on schedule, and skip the samples since."""
        progress, limit = self._progress, self._training.health.limit
        bad_step = progress.step + 1
        self._checkpointer.wait()
        candidates: list[Checkpoint] = []
        if self._collectives.rank == 0:
            candidates = checkpoint.on_schedule(self._run, self._training, progress.step)
        self._watchdog.begin("reading a checkpoint", progress.slowest_save)
        part = loading.first_whole(candidates, self._collectives)
        if part is None:
            raise fail(f"bad step {bad_step}: {problem}; no checkpoint to roll back to")
        target = part.checkpoint
        rollbacks = self._rollbacks[target.step] = self._rollbacks.get(target.step, 0) + 1
        if rollbacks > limit:
            raise fail(
                f"bad step {bad_step}: {problem}, after {count(limit, 'rollback')} to step {target.step}"
            )
        self._engine.load(target.state, target.step, part.files)
        progress.roll_back(target.record, progress.sample + self._training.global_batch)
        self._checkpointer.saved = target.step
        self._recorder.roll_back(bad_step, problem, progress)
        if self._collectives.rank == 0:
            checkpoint.abandon(self._run, self._attempt, target.step)
