"""Looks at a run for `watch`: once, or again and again beside the live view.

    Looker(load, words).look(queue_answer.ask(seen))
    with Reader(looker) as reader: terminal.show(reader.current)

Files are read every few seconds, less often if reading takes long. Slurm is asked once a minute, for all
jobs of the run together; meanwhile, and while it does not answer, its last answer stands. Each has a thread
of its own, so that neither a slow file system nor a silent Slurm stops the other, or the keys.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster.snapshot import snapshot
from kit.cluster.state import PATIENCE
from kit.errors import EkidenError
from kit.relay import logs, queue_answer, status
from kit.relay.queue_answer import QueueAnswer
from kit.relay.stages import TRAIN, training
from kit.watch import view
from kit.watch.page import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from kit.cluster.snapshot import Snapshot
    from kit.config.run import Project
    from kit.watch.page import Page
    from kit.watch.view import Facts

QUEUE_EVERY = (
    60.0  # seconds from an answer of Slurm, or the end of waiting for it, to the next question
)
_EVERY = 2.0  # seconds from one look to the next, at least
_SHARE = 5  # times as long as a look took
_STAGES_SHARE = 20  # times as long as it took to survey the files of all stages,
_STAGES_EVERY = 60.0  # but no more seconds than these
_FIRST_ANSWER = 2.0  # seconds for which the first look waits for Slurm
_TAIL = 1000  # lines of a log
_UNREADABLE = (EkidenError, OSError, ValueError, KeyError, TypeError)


class Looker:
    """The state of a run, look by look."""

    def __init__(self, load: Callable[[], Project], words: Sequence[str]) -> None:
        """`load` gives the run with its recipe; `words` are the arguments of the command."""
        self._load, self._words = load, words
        self.project = load()
        self._amended = self._amendments()
        self._seen: Snapshot | None = None  # at the last look
        self._chain: dict[str, Facts] = {}
        self._answer: QueueAnswer | None = None  # that the chain was made from
        self._stale_at = 0.0  # monotonic time from which the chain is made again

    def look(self, answer: QueueAnswer | None = None) -> Facts:
        """Everything that `watch` shows; without an answer of Slurm, Slurm is asked."""
        if (amended := self._amendments()) != self._amended:
            self.project, self._amended = self._load(), amended
        seen = self._seen = snapshot(self.project.run, self._seen)
        answer = answer or queue_answer.ask(seen)
        if answer is not self._answer or time.monotonic() >= self._stale_at:
            self._survey(seen, answer)
        self._chain[TRAIN.name] |= training(seen, self.project.recipe)
        return view.facts(self.project, self._chain, seen, time.time(), queue=answer.facts())

    def _survey(self, seen: Snapshot, answer: QueueAnswer) -> None:
        """Look at the files of all stages: thousands of them on a large corpus."""
        began = time.monotonic()
        self._chain = status.facts(self.project, self._words, seen=seen, queue=answer)
        took = time.monotonic() - began
        self._answer = answer
        self._stale_at = began + took + min(_STAGES_EVERY, _STAGES_SHARE * took)

    def _amendments(self) -> float:
        path = self.project.run.amendments
        return path.stat().st_mtime if path.is_file() else 0.0


class Reader:
    """Looks at a run in the background."""

    def __init__(self, looker: Looker) -> None:
        """Reads in a `with` block."""
        self._looker = looker
        self._title = str(looker.project.run.root)
        self._shown = Shown(self._title)
        self._answer = QueueAnswer(silent="asking")
        self._answered = threading.Event()
        self._page: Page | None = None
        self._page_turned = threading.Event()
        self._over = threading.Event()
        self._failure: Exception | None = None  # a bug, for the main thread to raise

    def __enter__(self) -> Self:
        """Start reading."""
        for work in (self._read, self._ask):
            threading.Thread(target=self._guarded, args=(work,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more; what is waiting for an answer is not waited for."""
        self._over.set()
        self._page_turned.set()

    def current(self, page: Page) -> Shown:
        """The last that was read."""
        if self._failure:
            raise self._failure
        if page != self._page:
            self._page = page
            self._page_turned.set()
        return self._shown

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # raised again by `current`
            self._failure = error

    def _ask(self) -> None:
        """Ask Slurm once a minute."""
        while not self._over.is_set():
            try:
                seen = snapshot(self._looker.project.run, curve=False)
                self._answer = queue_answer.ask(seen, self._answer, PATIENCE)
            except _UNREADABLE:
                pass  # what cannot be read, the other thread shows
            self._answered.set()
            self._over.wait(QUEUE_EVERY)

    def _read(self) -> None:
        """Look at the files, and between two looks at the log if it is shown."""
        self._answered.wait(_FIRST_ANSWER)
        while not self._over.is_set():
            began = time.monotonic()
            try:
                facts = self._looker.look(self._answer)
                self._shown = Shown(self._title, facts, *self._log(facts))
            except _UNREADABLE as error:
                self._problem(error)
            took = time.monotonic() - began
            self._follow(time.monotonic() + max(_EVERY, _SHARE * took))

    def _follow(self, until: float) -> None:
        """Read the log every second, until the next look."""
        while (left := until - time.monotonic()) > 0 and not self._over.is_set():
            if self._page_turned.wait(min(1.0, left)):
                self._page_turned.clear()
            facts = self._shown.facts
            if facts is None:
                continue
            try:
                log, tail = self._log(facts)
                self._shown = replace(self._shown, log=log, tail=tail)
            except OSError as error:
                self._problem(error)

    def _problem(self, error: Exception) -> None:
        text = f"{error}" if isinstance(error, EkidenError) else f"{type(error).__name__}: {error}"
        self._shown = replace(self._shown, problem=text)

    def _log(self, facts: Facts) -> tuple[str | None, Sequence[str]]:
        """The log of the job that runs, or ended last, and its last lines, if it is shown."""
        page = self._page  # which the main thread may turn
        if page is None or page.name != "log":
            return None, []
        if page.scroll and self._shown.log:  # it stands still while it is read
            return self._shown.log, self._shown.tail
        path = _log_of(self._looker.project, facts["chain"])
        return (str(path), logs.last_lines(path, _TAIL)) if path else (None, [])


def _log_of(project: Project, chain: Mapping[str, Facts]) -> Path | None:
    """The log of the first stage that has one, else the last of the training, of rank 0."""
    for stage in chain.values():
        if stage["log"]:
            return Path(stage["log"])
    written = project.run.job_logs(TRAIN.name).glob("*_0_log.out")
    return max(written, key=lambda path: path.stat().st_mtime, default=None)
