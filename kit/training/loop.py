"""The training loop, from top to bottom.

A step is `accumulation` micro-batches on every rank and one update. Before each step stands what is
due at its boundary: validation, a checkpoint. Between micro-batches the ranks ask each other whether
to leave; when they do, gradients of the unfinished step are dropped and the state of the last full
step is saved. Everything random is a function of the recipe's seed and the number of the sample, so
that an interruption leaves no trace.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kit.data import shards, tokens
from kit.errors import CheckpointError
from kit.output import log
from kit.output.quantities import count
from kit.plan import schedule
from kit.plan.interval import checkpoint_interval
from kit.store.files import read_json, text_hash
from kit.training import checkpoint, health
from kit.training.batches import training_batches, validation_blocks
from kit.training.book import Book
from kit.training.engine import Engine, convert
from kit.training.interruption import Lookout, Reason
from kit.training.progress import Progress
from kit.training.saver import Saver

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Attempt, Run
    from kit.training.device import Device
    from kit.training.health import Watchdog
    from kit.training.saver import Saved
    from kit.training.team import Team

_POLL = 0.05  # seconds between two looks at a save that is waited for
_EXIT = 5.0  # seconds to leave in, after a save


@dataclass(frozen=True)
class Ending:
    """Why the loop ends: the words of `end.json`."""

    outcome: str  # done, interrupted, stopped, superseded, failed
    reason: str = ""

    @classmethod
    def of(cls, reason: Reason) -> Ending:
        """That of an interruption."""
        return cls(reason.outcome, reason.text)


class Loop:
    """One attempt's training. Every rank runs the same; the book is rank 0's."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        cluster: Cluster,
        attempt: Attempt,
        device: Device,
        team: Team,
        watchdog: Watchdog,
    ) -> None:
        """Build the model, and load the checkpoint that rank 0 chose.

        Raises CheckpointError where it was trained on other tokens.
        """
        self._run, self._recipe, self._attempt = run, recipe, attempt
        self._training, self._resources = recipe.training, cluster.training
        self._device, self._team, self._watchdog = device, team, watchdog
        data = tokens.complete(recipe)
        train_row, self._held_out = (tokens.open_part(data, p, recipe) for p in shards.PARTS)
        self._batches = training_batches(recipe, train_row, team.rank, team.ranks)
        self._held_out_blocks = validation_blocks(recipe, self._held_out)
        self._schedule = schedule.of_run(
            run, self._training, lambda t: t.steps_over(self._batches.blocks), attempt.number
        )
        self._steps = self._schedule.end
        self._fingerprint = tokens.fingerprint(data)
        start = read_json(attempt.start)
        self._progress = Progress()
        self._saved: int | None = None  # the step of the last committed checkpoint
        self._engine = self._resume(start)
        if start["validated"]:
            self._progress.validated = self._progress.step
        self._began = time.monotonic() - self._progress.trained
        self._book: Book | None = None
        self._lookout: Lookout | None = None
        if team.rank == 0:
            self._lookout = Lookout(run, attempt, team.interruption)
            self._book = Book(run, recipe, cluster, attempt, start, self._batches)
            self._book.begin(self._schedule, self._engine.parameters())
        sync = self._book.sync if self._book else lambda: None
        self._saver = Saver(run, attempt, self._training, team, sync)
        self._memory = 0  # bytes: the greatest peak of a rank
        self._last_save = time.monotonic()
        self._last_step = 0.0  # seconds
        self._save_wanted = False
        self._failed_saves = 0
        self._retry_at: float | None = None
        self._rollbacks: dict[int, int] = {}

    def run(self) -> dict[str, Any]:
        """Train until the last step, or a reason to leave; returns what `end.json` says."""
        ending: Ending | None = None
        while ending is None:
            ending = self._validate_if_due() or self._save_if_due()
            if ending is None and self._progress.step >= self._steps:
                ending = Ending("done")
            ending = ending or self._step()
        return self._leave(ending)

    def _step(self) -> Ending | None:
        """One step: forward, backward, and the update if it is a good one."""
        began = time.monotonic()
        progress, batches = self._progress, self._batches
        self._watchdog.begin(f"step {progress.step + 1}")
        total = torch.zeros((), dtype=torch.float32, device=self._engine.device)
        for micro in range(batches.accumulation):
            if (reason := self._reason()) is not Reason.NONE:
                return Ending.of(reason)
            first = batches.first_sample(progress.sample, micro)
            seed = text_hash(f"dropout.{batches.seed}.{first}") >> 1
            blocks = torch.from_numpy(batches.read(progress.sample, micro))
            last = micro == batches.accumulation - 1
            total += self._engine.micro_batch(blocks, seed, last=last)  # a GPU is not waited for
        loss = self._team.sum(total.cpu()) / (batches.accumulation * batches.ranks)
        rate = self._schedule.rate(progress.step)
        self._engine.set_learning_rate(rate)

        def bad(norm: float) -> str | None:
            return health.problem(self._training.health, progress, loss, norm)

        scale = self._engine.loss_scale
        norm = self._engine.update(lambda norm: bad(norm) is None)
        # In fp16 the loss scale is found by trying: a step that it was too large for is left out, and
        # no bad one.
        overflowed = self._engine.overflowed and math.isfinite(loss)
        what = None if overflowed else bad(norm)
        if what is not None:
            counts, ending = self._meet_bad_step(what)
            if not counts:
                return ending
        progress.step += 1
        progress.sample += batches.global_batch
        if what is None and not overflowed:
            progress.good_step(loss, norm, self._training.health.window)
        self._last_step = time.monotonic() - began
        self._watchdog.step_ended(self._last_step)
        if self._book:
            figures = {"loss": loss, "learning_rate": rate, "gradient_norm": norm}
            if scale is not None:
                figures["loss_scale"] = scale
            flags = {"skipped": what is not None, "overflow": overflowed}
            self._book.step(progress, figures, flags, self._last_step, self._memory)
        return None

    def _meet_bad_step(self, what: str) -> tuple[bool, Ending | None]:
        """Do what the recipe says; returns whether the step counts, and the end, if it is one."""
        rules, progress = self._training.health, self._progress
        progress.bad_steps += 1
        action = rules.on_bad_step
        too_many = (
            f"{count(rules.limit, 'time')} in a row" if progress.bad_steps > rules.limit else ""
        )
        if action == "rollback" and not too_many:
            return False, self._roll_back(what)
        if self._book:
            done = "stop" if too_many else action
            self._book.add("health", step=progress.step + 1, what=what, action=done)
        if action == "skip" and not too_many:
            return True, None
        return False, Ending("failed", f"bad step {progress.step + 1}: {what} {too_many}".strip())

    def _roll_back(self, what: str) -> Ending | None:
        """Load the last checkpoint on schedule, and pass over the samples since."""
        rules, bad = self._training.health, self._progress
        self._wait_for_save()
        found = None
        if self._team.rank == 0:
            found = checkpoint.on_schedule(self._run, self._training, bad.step)
        found = self._team.told(found)
        if found is None:
            return Ending("failed", f"bad step {bad.step + 1}: {what}; no checkpoint to go back to")
        times = self._rollbacks[found.step] = self._rollbacks.get(found.step, 0) + 1
        if times > rules.limit:
            return Ending(
                "failed",
                f"{what}: gone back to step {found.step} {count(rules.limit, 'time')}",
            )
        self._engine.load(found.state, found.step)
        self._progress = Progress.of(found.record)
        end = bad.sample + self._batches.global_batch
        self._progress.passed_over += [[self._progress.sample, end]]
        self._progress.sample = end
        self._progress.slowest_save = bad.slowest_save
        self._saved = found.step
        if self._book:
            self._book.roll_back(bad.step + 1, what, self._progress)
            checkpoint.abandon(self._run, self._attempt, found.step)
        return None

    def _validate_if_due(self) -> Ending | None:
        """Validate where the recipe says, and after the last step."""
        progress = self._progress
        due = progress.step % self._training.validate_every == 0 or progress.step >= self._steps
        if not due or progress.validated >= progress.step:
            return None
        began = time.monotonic()
        total = torch.zeros((), dtype=torch.float64)
        for first in range(0, self._held_out_blocks, self._team.ranks):
            self._watchdog.begin(f"validation at step {progress.step}")
            if (reason := self._reason()) is not Reason.NONE:
                return Ending.of(reason)
            # A rank without a block of its own repeats the last one, uncounted: ZeRO-3 needs all.
            index = first + self._team.rank
            block = self._held_out.block(
                min(index, self._held_out_blocks - 1), self._batches.length
            )
            loss = self._engine.validate(torch.from_numpy(block[None]))
            total += loss.cpu() if index < self._held_out_blocks else 0
        mean = self._team.sum(total) / self._held_out_blocks
        progress.validated = progress.step
        if self._book:
            seconds = time.monotonic() - began
            self._book.add("validation", step=progress.step, validation_loss=mean, seconds=seconds)
        return None

    def _save_if_due(self) -> Ending | None:
        """Settle the save in flight, and begin one where it is due."""
        wish = self._look_after_save(self._wishes_to_save())
        step, training = self._progress.step, self._training
        # Also where one is to stay for good: by the clock none would fall upon that step.
        due = (training.checkpoint_every, training.keep_every)
        on_schedule = any(every and step % every == 0 for every in due)
        if on_schedule and training.health.on_bad_step == "rollback" and self._saver.step != step:
            # A run goes back to a step on schedule: which ones there are is not for the disk to decide.
            self._wait_for_save()
        self._save_wanted |= wish or on_schedule
        if self._save_wanted and self._saver.step is None:
            self._save_wanted = False
            if step != self._saved:
                self._begin_save()
        if self._failed_saves >= self._training.save_tries:
            return Ending("failed", f"{count(self._failed_saves, 'save')} failed in a row")
        return None

    def _wishes_to_save(self) -> bool:
        """Rank 0: whether a user asks for a checkpoint, or the clock does."""
        if self._lookout is None:
            return False
        if self._lookout.save_wanted():
            return True
        now = time.monotonic()
        if self._retry_at is not None:
            return now >= self._retry_at
        if self._training.checkpoint_every is not None:
            return False
        progress = self._progress
        return now - self._last_save >= checkpoint_interval(
            progress.blocked, progress.slowest_save, now - self._began, self._attempt.number - 1
        )

    def _look_after_save(self, wish: bool) -> bool:
        """Whether any rank wishes a save; one in flight is settled when no rank writes any longer."""
        writing, error, agreed, self._memory = self._team.most(
            [self._saver.writing, self._saver.error, wish, self._device.peak_memory()]
        )
        if self._saver.step is not None and not writing:
            self._settled(self._saver.settle(error))
        return bool(agreed)

    def _begin_save(self) -> None:
        began = time.monotonic()
        self._last_save, self._retry_at = began, None
        self._progress.trained = began - self._began
        facts = {**self._progress.facts(), "data": self._fingerprint}
        failed = self._saver.begin(self._engine, self._progress.step, facts)
        self._progress.blocked = time.monotonic() - began
        if failed is not None:
            self._settled(failed)

    def _settled(self, saved: Saved) -> None:
        """A save has ended, well or not."""
        if saved.error:
            self._failed_saves += 1
            self._retry_at = time.monotonic() + self._training.save_pause
            if self._book:
                self._book.add("save_failed", step=saved.step, reason=saved.reason)
            return
        self._saved, self._failed_saves, self._retry_at = saved.step, 0, None
        self._progress.slowest_save = max(self._progress.slowest_save, saved.seconds)
        if self._book:
            blocked = self._progress.blocked
            figures = {"blocked": blocked, "seconds": saved.seconds, "bytes": saved.bytes}
            self._book.add("checkpoint", step=saved.step, **figures)

    def _wait_for_save(self) -> None:
        self._watchdog.begin("save", self._progress.slowest_save)
        while self._saver.step is not None:
            self._look_after_save(False)
            time.sleep(_POLL)

    def _leave(self, ending: Ending) -> dict[str, Any]:
        """Save what is not, as far as there is time; a save in flight ends first."""
        if ending.outcome != "done":
            log.info(f"leaving after step {self._progress.step:,}: {ending.reason}")
        if ending.outcome != "superseded":
            self._wait_for_save()
            ending = self._save_at_last(ending)
        self._saver.close()
        saved = self._saved or 0
        step = self._progress.step
        outcome = {"outcome": ending.outcome, "reason": ending.reason, "step": step, "saved": saved}
        if self._book:
            self._book.close(outcome)
        return outcome

    def _save_at_last(self, ending: Ending) -> Ending:
        tries = self._training.save_tries
        while self._progress.step != self._saved and self._failed_saves < tries:
            if self._failed_saves and ending.outcome == "done":
                pause = self._training.save_pause
                self._watchdog.begin("save", pause)
                time.sleep(pause)
            elif not self._team.told(self._lookout is None or self._time_for_save()):
                break
            self._begin_save()
            self._wait_for_save()
            if self._failed_saves and ending.outcome != "done":
                break
        if ending.outcome == "done" and self._progress.step != self._saved:
            return Ending("failed", f"{count(tries, 'save')} failed, the last step's too")
        return ending

    def _time_for_save(self) -> bool:
        """Rank 0: whether a save as long as the slowest so far ends in time."""
        assert self._lookout is not None
        left = self._lookout.seconds_left(self._resources.grace_seconds)
        return left > self._progress.slowest_save

    def _reason(self) -> Reason:
        if self._lookout:
            self._lookout.look(self._seconds_to_leave)
        return self._team.reason()

    def _seconds_to_leave(self) -> float:
        """A save as long as the slowest so far, half as much again, after the step in progress."""
        slowest = self._progress.slowest_save or self._resources.warning_seconds
        return 1.5 * slowest + 2.0 * self._last_step + _EXIT

    @property
    def _compiles(self) -> str:
        return "; the first step builds the model's kernels" if self._training.compile else ""

    def _resume(self, start: dict[str, Any]) -> Engine:
        """The engine, with the state of the checkpoint that rank 0 chose."""
        name = start["checkpoint"]
        vocabulary = tokens.vocabulary(self._recipe)
        arguments = (self._recipe, self._device, self._batches.accumulation, vocabulary)
        if name is None:
            # To go back to, step 0 must be saved as well.
            self._saved = None if self._training.health.on_bad_step == "rollback" else 0
            log.info(f"building the model and DeepSpeed's engine{self._compiles}")
            return Engine(*arguments)
        found = checkpoint.named(self._run, name)
        record = found.record
        if record["data"] != self._fingerprint:
            raise CheckpointError(
                f"{found.folder}: was trained on other tokens than the workspace holds now; restore "
                "them, or begin a new run under another name"
            )
        self._progress, self._saved = Progress.of(record), found.step
        log.info(f"building the model and DeepSpeed's engine{self._compiles}")
        log.info(f"loading the checkpoint of {found.origin}")
        if record["ranks"] == self._team.ranks:
            engine = Engine(*arguments)
            engine.load(found.state, found.step)
            log.info(f"resumes from {found.origin}")
            return engine
        place = self._run.universal(found.folder)  # DeepSpeed leaves a file beside what it makes
        universal = place / checkpoint.STATE
        if self._team.rank == 0:
            log.info(
                f"{found.folder}: of {count(record['ranks'], 'rank')}, goes on with "
                f"{self._team.ranks}: the order of the data and the global batch stay, the last bits of "
                "sums do not"
            )
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            convert(found.state, universal)
        self._team.barrier()
        engine = Engine(*arguments, universal=True)
        engine.load(universal, found.step)
        self._team.barrier()
        if self._team.rank == 0:
            shutil.rmtree(place)
        log.info(f"resumes from {found.origin}")
        return engine
