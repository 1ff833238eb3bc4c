"""The training loop, from top to bottom.

A step is `accumulation` micro-batches on every rank and one update. Validation and checkpoints come
between steps. During each micro-batch the ranks agree whether to leave after it; if they do, gradients of
an unfinished step are dropped and the state of the last full step is saved. All randomness is a function
of the recipe's seed and the sample number, so that an interruption leaves no trace.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from kit.data import index, shards
from kit.errors import EkidenError
from kit.output import log
from kit.plan import schedule
from kit.store import records
from kit.store.files import text_hash
from kit.training import health
from kit.training.bad_steps import BadSteps
from kit.training.batches import training_batches, validation_blocks
from kit.training.checkpointer import Checkpointer
from kit.training.ending import Ending, Leave
from kit.training.interruption import Reason, StopMonitor
from kit.training.profiler import WHOLE, StepProfiler, part
from kit.training.read_ahead import ReadAhead
from kit.training.recorder import recorder
from kit.training.resume import resume
from kit.training.samples import Samples
from kit.training.usage import UsageMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kit.store.records import Result
    from kit.tracking.rows import Flags, StepFigures
    from kit.training.context import Context
    from kit.training.samples import Sample

_EXIT_SECONDS = 5.0  # to end the process, after a save


class Loop:
    """Training of one attempt; the same on every rank."""

    def __init__(self, context: Context) -> None:
        """Build the model, and load the checkpoint that rank 0 chose.

        Raises CheckpointError if it was trained on other tokens.
        """
        run, recipe, attempt = context.run, context.recipe, context.attempt
        collectives, self._training = context.collectives, recipe.training
        self._collectives, self._watchdog = collectives, context.watchdog
        self._warning_seconds = context.cluster.training.warning_seconds
        data = _token_files(context)
        training_set, self._held_out = (data.open(part, recipe) for part in shards.PARTS)
        self._batches = training_batches(
            recipe, training_set, collectives.rank, collectives.world_size
        )
        self._reader = ReadAhead(self._batches, context.device)
        self._held_out_blocks = validation_blocks(recipe, self._held_out)
        start = records.start(attempt)
        origin = resume(context, start, self._batches.accumulation, data.fingerprint)
        self._schedule = schedule.for_run(  # depends on the step that the attempt starts from
            run, self._training, lambda t: t.steps_over(self._batches.blocks), attempt.number
        )
        self._engine, self._progress = origin.engine, origin.progress
        self._stop_monitor = StopMonitor(run, attempt, collectives.interruption, collectives.rank)
        self._samples = Samples(context, self._engine)
        per_byte = None  # rank 0 records
        if collectives.rank == 0:
            per_byte = data.tokens_per_byte(recipe, self._held_out, self._held_out_blocks)
        self._recorder = recorder(context, origin.start, self._batches, per_byte)
        self._recorder.begin(self._schedule, self._engine.parameters(), origin.exactness)
        self._checkpointer = Checkpointer(
            context, origin, data.fingerprint, self._recorder, self._stop_monitor
        )
        self._bad_steps = BadSteps(context, origin, self._recorder, self._checkpointer)
        self._meter = UsageMeter(context.device, collectives, self._engine.forward)
        self._profiler = StepProfiler(run, attempt, context.device, collectives.rank)
        self._last_step = 0.0  # seconds
        self._reason = Reason.NONE  # to leave, agreed during the last micro-batch

    def run(self) -> Result:
        """Train until the last step, or a reason to leave; returns the result for `end.json`."""
        ending = Ending("done")
        try:
            self._between_steps()
            while self._progress.step < self._schedule.end:
                self._profiler.step_begins(self._progress.step + 1)
                with part(WHOLE):
                    self._step()
                self._profiler.step_ended(self._progress.step)
                self._leave_for(self._reason)
                self._between_steps()
        except Leave as leave:
            ending = leave.ending
        return self._leave(ending)

    def _between_steps(self) -> None:
        """Validate and save, if due."""
        self._validate_if_due()
        self._checkpointer.save_if_due()

    def _step(self) -> None:
        """Run one step: forward, backward, and the update unless the step is bad."""
        clock, progress = self._watchdog.clock, self._progress
        began = clock.now()
        self._watchdog.begin(f"step {progress.step + 1}")
        total = self._forward_and_backward()
        rate, scale = self._schedule.rate(progress.step), self._engine.loss_scale
        self._engine.set_learning_rate(rate)
        # The one wait for a GPU: what is below runs beside the update of the weights.
        losses, norm = self._engine.update(total, health.limits(self._training.health, progress))
        flags = self._counted(losses[0], norm)
        if flags is None:
            self._meter.discard()
            return
        self._last_step = clock.now() - began
        self._watchdog.step_ended(self._last_step)
        with part("agreement"):
            usage = self._meter.of_step(self._last_step)
        with part("ledger"):
            self._recorder.step(progress, _figures(losses, rate, norm, scale), flags, usage)

    def _counted(self, loss: float, norm: float) -> Flags | None:
        """Count a step, good or skipped; returns the flags of its row, None if training has rolled back."""
        progress, rules = self._progress, self._training.health
        # In fp16 the loss scale is found by trial: a step that overflows is skipped, but is not bad.
        overflowed = self._engine.overflowed and math.isfinite(loss)
        problem = None if overflowed else health.problem(rules, progress, loss, norm)
        if problem is not None and not self._bad_steps.handle(problem):
            return None
        progress.step += 1
        progress.sample += self._batches.global_batch
        if problem is not None:
            return {"skipped": True}
        if overflowed:
            return {"overflow": True}
        progress.good_step(loss, norm, rules.window)
        return {}

    def _forward_and_backward(self) -> Tensor:
        """Run the micro-batches of a step; returns the sum of this rank's losses, on its device."""
        batches, sample = self._batches, self._progress.sample
        total = torch.zeros((), dtype=torch.float32, device=self._engine.device)
        for micro in range(batches.accumulation):
            with part("agreement"):
                agreed = self._begin_to_agree()
            first = batches.first_sample(sample, micro)
            seed = text_hash(f"dropout.{batches.seed}.{first}") >> 1
            with part("data"), self._meter.waiting_for_data():
                blocks = self._reader.read(sample, micro)
            last = micro == batches.accumulation - 1
            total = total + self._engine.micro_batch(blocks, seed, last=last)  # no wait for a GPU
            with part("agreement"):  # reached during the micro-batch
                self._reason = agreed()
            if not last:
                self._leave_for(self._reason)
        return total

    def _validate_if_due(self) -> None:
        """Validate at the recipe's interval, and after the last step."""
        step = self._progress.step
        due = step % self._training.validate_every == 0 or step >= self._schedule.end
        if not due or self._progress.validated >= step:
            return
        began = time.monotonic()
        # Added up on the device: the host waits for it once.
        total = torch.zeros((), dtype=torch.float64, device=self._engine.device)
        for first in range(0, self._held_out_blocks, self._collectives.world_size):
            self._watchdog.begin(f"validation at step {step}")
            self._leave_if_interrupted()
            # A rank without a block repeats the last one, uncounted: ZeRO-3 needs every rank.
            index = first + self._collectives.rank
            block = self._held_out.block(
                min(index, self._held_out_blocks - 1), self._batches.length
            )
            loss = self._engine.validate(torch.from_numpy(block[None]))
            total += loss if index < self._held_out_blocks else 0
        mean = self._collectives.sum(total.cpu()) / self._held_out_blocks
        samples = self._write_samples(step)
        self._progress.validated = step
        self._recorder.validation(step, mean, samples, time.monotonic() - began)

    def _write_samples(self, step: int) -> list[Sample]:
        """The samples of a validation, if due."""
        every = self._training.samples_every
        if every is not None and step % every and step < self._schedule.end:
            return []
        return self._samples.write(step, self._leave_if_interrupted)

    def _leave_if_interrupted(self) -> None:
        """Raise Leave on all ranks, if any of them has a reason."""
        self._leave_for(self._begin_to_agree()())

    def _begin_to_agree(self) -> Callable[[], Reason]:
        """Begin to agree whether to leave; the result, once called, is the reason that all ranks have."""
        self._stop_monitor.poll(self._seconds_to_leave)
        return self._collectives.begin_to_agree()

    def _leave_for(self, reason: Reason) -> None:
        if reason is not Reason.NONE:
            reason = self._stop_monitor.explained(reason, self._warning_seconds)
            raise Leave(Ending.from_reason(reason))

    def _seconds_to_leave(self) -> float:
        """Time for the step in progress, the save in flight, and one half as long again as the slowest."""
        slowest = self._progress.slowest_save or self._warning_seconds
        saves = 2.5 if self._checkpointer.saving else 1.5
        return saves * slowest + 2.0 * self._last_step + _EXIT_SECONDS

    def _leave(self, ending: Ending) -> Result:
        """Finish the save in flight, and save unsaved steps if time allows."""
        self._engine.abandon()
        step = self._progress.step
        if ending.outcome != "done":
            log.info(f"leaving after step {step:,}: {ending.reason}")
        if ending.outcome != "superseded":
            ending = self._checkpointer.save_before_leaving(ending)
        self._reader.close()
        self._checkpointer.close()
        saved = self._checkpointer.saved or 0
        result: Result = {
            "outcome": ending.outcome,
            "reason": ending.reason,
            "step": step,
            "saved": saved,
        }
        self._recorder.close(result)
        return result


def _figures(losses: list[float], rate: float, norm: float, scale: float | None) -> StepFigures:
    """The figures of a step's row; `losses`: the cross-entropy, with z-loss both."""
    figures: StepFigures = {"loss": losses[0], "learning_rate": rate, "gradient_norm": norm}
    if losses[1:]:
        figures["z_loss"] = losses[1]
    if scale is not None:
        figures["loss_scale"] = scale
    return figures


def _token_files(context: Context) -> index.TokenFiles:
    """The token files that rank 0 reads from the index; its error is raised on all ranks."""
    result: index.TokenFiles | EkidenError | None = None
    if context.collectives.rank == 0:
        try:
            result = index.load(context.recipe)
        except EkidenError as error:
            result = error
    result = context.collectives.broadcast(result)
    if isinstance(result, EkidenError):
        raise result
    assert result is not None
    return result
