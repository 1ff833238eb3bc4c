"""The live view on a terminal: draws a page twice a second if anything has changed, and obeys the keys.

    show(lambda page: Shown(facts, tail))

It draws on the alternate screen, with rich. Ctrl-C quits, Ctrl-Z stops the process until `fg`; at every
end the terminal is as before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live

from kit.watch.keys import QUIT, Keyboard
from kit.watch.page import Page, turned
from kit.watch.screen import reading, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from kit.watch.page import Shown

_WAIT = 0.25  # seconds for a key, and until a new size is noticed


class _Signals:
    """Signals of the keyboard that have come, for the loop to obey."""

    def __init__(self) -> None:
        self.quit = self.suspend = False

    def take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note a signal."""
        if number == signal.SIGTSTP:
            self.suspend = True
        else:
            self.quit = True


def show(current: Callable[[Page], Shown]) -> None:
    """Draw until the user quits; `current` gives the contents, and must not block."""
    signals, page = _Signals(), Page()
    with _taken(signals, signal.SIGINT, signal.SIGTSTP):
        while not signals.quit:
            page = _draw(current, page, signals)
            if signals.suspend:
                signals.suspend = False
                _suspend()
            else:
                return


def _draw(current: Callable[[Page], Shown], page: Page, signals: _Signals) -> Page:
    """Draw until the user quits or suspends the process."""
    console = Console()
    last, drawn = None, None
    with Keyboard(sys.stdin.fileno()) as keyboard, _alternate_screen(console) as live:
        while not (signals.quit or signals.suspend):
            shown, (width, height) = current(page), os.get_terminal_size(sys.stdout.fileno())
            state = (page, width, height, int(time.time()))
            if shown is not last or state != drawn:
                console.size = (width, height)
                lines, page = _lines(shown, page, width, height)
                live.update(Group(*lines), refresh=True)
                last, drawn = shown, state
            for key in keyboard.wait(_WAIT):
                if key == QUIT:
                    return page
                page = turned(page, key, height - 2)
    return page


@contextmanager
def _alternate_screen(console: Console) -> Iterator[Live]:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            yield live
        finally:
            console.clear()  # after a new size, tmux would leave some of its lines on the other one


def _lines(shown: Shown, page: Page, width: int, height: int) -> tuple[Any, Page]:
    if shown.facts is None:
        return reading(shown.title, shown.problem), page
    facts = shown.facts
    if shown.problem:
        facts = {**facts, "problems": [*facts["problems"], shown.problem]}
    return screen(facts, page, width, height, time.time(), shown.log, shown.tail)


@contextmanager
def _taken(signals: _Signals, *numbers: signal.Signals) -> Iterator[None]:
    """Give signals to the loop, until the end of the block."""
    before = {number: signal.signal(number, signals.take) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _suspend() -> None:
    """Stop this process until it is continued."""
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)
