"""The log, on the standard library's logging: one event is one line on stderr.

    log.info("checkpoint of step 500: 1.2 GB in 3.4 s")

In a file or pipe, a line begins with the time, and in a job also with its attempt and rank:

    2026-11-28 01:02:03 attempt 3 rank 0: checkpoint of step 500: 1.2 GB in 3.4 s

On a terminal it is only the text. The progress of long work is shown by kit/output/progress.py. The output
of a command is not logged: it is printed on stdout.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import IO

from kit.output import program

_CLOCK = "%Y-%m-%d %H:%M:%S"


def info(text: str) -> None:
    """Log a normal event."""
    _logger.info(text)


def warning(text: str) -> None:
    """Log a problem that does not stop the work."""
    _logger.warning(text)


def error(text: str) -> None:
    """Log a failure, or an imminent end."""
    _logger.error(text)


def set_place(place: str, *, quiet: bool = False) -> None:
    """Prefix all further lines with this (`attempt 3 rank 0`); `quiet`: only warnings and errors.

    An event common to all ranks is logged by rank 0 alone.
    """
    _handler.place = place
    _logger.setLevel(logging.WARNING if quiet else logging.INFO)


def is_terminal(stream: IO[str] | None = None) -> bool:
    """Whether a stream, by default stderr, is a terminal."""
    return bool((stream or sys.stderr).isatty())


@functools.cache
def leave_out(library: str, *messages: str) -> None:
    """Drop the records of a library's logger whose message contains one of these texts.

    Quote messages that mean nothing here, long enough that no other is lost.
    """

    def keeps(record: logging.LogRecord) -> bool:
        return not any(message in record.getMessage() for message in messages)

    logging.getLogger(library).addFilter(keeps)


class _Lines(logging.Handler):
    """Writes to the current stderr: a progress bar, or a full disk, may replace it."""

    place = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        print(self.format(record), file=sys.stderr, flush=True)

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Handler."""
        text = program.respelled(record.getMessage())
        if is_terminal():
            return text
        clock = logging.Formatter().formatTime(record, _CLOCK)
        place = f" {self.place}:" if self.place else ""
        return f"{clock}{place} {text}"


_handler = _Lines()
_logger = logging.getLogger("ekiden")
_logger.propagate = False
_logger.setLevel(logging.INFO)
_logger.addHandler(_handler)
