"""Draws the rows of the running attempt for TensorBoard, in a thread of its own.

The training thread only appends to a queue. Rows reach the file within a second, so that a killed attempt
lacks at most that much: the file of the next attempt begins with it.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from kit.output import log
from kit.tracking import ledger
from kit.tracking.tensorboard import EventFile

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.tracking.rows import Row

_EVERY = 1.0  # seconds
_PAUSE = 60.0  # seconds until a file that could not be written is written again
_PATIENCE = 10.0  # seconds to draw the last rows


class Drawer:
    """The event file of the running attempt, written as rows come."""

    def __init__(self, run: Run, recipe: Recipe, attempt: Attempt) -> None:
        self._run, self._recipe, self._attempt = run, recipe, attempt
        self._rows: deque[Row] = deque()
        self._file: EventFile | None = None
        self._taken = 0  # rows taken from the queue
        self._in_file = 0  # rows of the ledger, from the first on, that the file has
        self._retry_at = 0.0  # monotonic
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="tensorboard")
        self._thread.start()

    def add(self, row: Row) -> None:
        """Draw a row, soon; the ledger has it already."""
        self._rows.append(row)

    def close(self) -> None:
        """Draw what is left, unless that takes too long."""
        self._closing.set()
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        last = False
        while not last:
            last = self._closing.wait(_EVERY)
            if self._file is None and time.monotonic() < self._retry_at and not last:
                continue
            try:
                self._draw()
                if last and self._file:
                    self._file.close()
            except OSError as error:
                log.warning(f"{self._run.tensorboard}: {error.strerror}; will be rewritten later")
                self._file, self._retry_at = None, time.monotonic() + _PAUSE

    def _draw(self) -> None:
        """Draw the waiting rows; into a new file first all rows of the attempt so far."""
        if not self._rows:
            return
        if self._file is None:
            file, self._in_file = EventFile(self._run, self._recipe, self._attempt), 0
            for row in ledger.rows(self._attempt):
                file.add(row)
                self._in_file += 1
            if self._in_file < self._taken:
                raise OSError(errno.ENOSPC, "the ledger is not on disk yet")
            self._file = file
        while self._rows:
            row = self._rows.popleft()
            self._taken += 1
            if self._taken > self._in_file:
                self._file.add(row)
                self._in_file += 1
        self._file.flush()
