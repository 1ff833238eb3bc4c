"""What the kit says while it works, on the standard library's logging: one event, one line, on stderr.

    log.info("checkpoint of step 500: 1.2 GB in 3.4 s")

In a file or pipe a line begins with the clock, in a job also with its place:

    2026-11-28 01:02:03 attempt 3 rank 0: checkpoint of step 500: 1.2 GB in 3.4 s

On a terminal it is the text alone. How far long work has come is the subject of kit/output/progress.py. A
command's answer is no log line: it is printed on stdout.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import IO

_CLOCK = "%Y-%m-%d %H:%M:%S"


def info(text: str) -> None:
    """An event of the usual course."""
    _logger.info(text)


def warning(text: str) -> None:
    """Something is amiss, and the work goes on."""
    _logger.warning(text)


def error(text: str) -> None:
    """Something has failed, or is about to end."""
    _logger.error(text)


def set_place(place: str, *, quiet: bool = False) -> None:
    """Begin every line with this from here on (`attempt 3 rank 0`); `quiet`: warnings and errors only.

    The ranks of a job have one voice: what all of them know, rank 0 says.
    """
    _handler.place = place
    _logger.setLevel(logging.WARNING if quiet else logging.INFO)


def is_terminal(stream: IO[str] | None = None) -> bool:
    """Whether a person sees the lines as they come: stderr, or another stream, is a terminal."""
    return bool((stream or sys.stderr).isatty())


@functools.cache
def leave_out(library: str, *messages: str) -> None:
    """Have a library's logger leave out the records whose message contains one of these.

    For what means nothing here: named in its own words, so that nothing else is lost.
    """

    def keeps(record: logging.LogRecord) -> bool:
        return not any(message in record.getMessage() for message in messages)

    logging.getLogger(library).addFilter(keeps)


class _Lines(logging.Handler):
    """Writes to the stderr of the moment: a bar that is shown, or a full disk, may replace it."""

    place = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        print(self.format(record), file=sys.stderr, flush=True)

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Handler."""
        if is_terminal():
            return record.getMessage()
        clock = logging.Formatter().formatTime(record, _CLOCK)
        place = f" {self.place}:" if self.place else ""
        return f"{clock}{place} {record.getMessage()}"


_handler = _Lines()
_logger = logging.getLogger("ekiden")
_logger.propagate = False
_logger.setLevel(logging.INFO)
_logger.addHandler(_handler)
